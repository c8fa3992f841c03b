"""What can go wrong with what is uploaded: the part of `store.errors` that is about data sets on their way in.

StoreError
├── UploadTooLarge
├── UploadMismatch
└── UploadConflict
    ├── UploadCompleted
    ├── PartsMissing
    ├── PartsChanged
    └── SourceGone
"""

from collections.abc import Sequence

from store.errors import StoreError


class UploadConflict(StoreError):
    """It is not, or no longer, in a state that allows this."""

    code = "upload_conflict"


class SourceGone(UploadConflict):
    """An import cannot be tried again: it failed because of what was uploaded, which was given up."""

    code = "source_gone"

    def __init__(self) -> None:
        super().__init__("What was uploaded could not be imported, and was given up; upload it anew.")


class UploadTooLarge(StoreError):
    code = "upload_too_large"

    def __init__(self, most_bytes: int) -> None:
        super().__init__(f"All parts together may have at most {most_bytes} bytes.")
        self.most_bytes = most_bytes


class UploadCompleted(UploadConflict):
    """Nothing can be added to it any more."""

    code = "upload_completed"

    def __init__(self, dataset_id: str) -> None:
        super().__init__(f"This upload is completed; it is the data set {dataset_id}.")
        self.dataset_id = dataset_id


class UploadMismatch(StoreError):
    """What was uploaded is not what was meant."""

    code = "digest_mismatch"

    def __init__(self, size: int, found: str, wanted: str) -> None:
        super().__init__(f"The parts put together have {size} bytes and the SHA-256 {found}, not {wanted}.")
        self.found = found


class PartsMissing(UploadConflict):
    code = "parts_missing"

    def __init__(self, numbers: Sequence[int], count: int) -> None:
        named = ", ".join(map(str, numbers)) + (", ..." if count > len(numbers) else "")
        super().__init__(f"Parts are missing: {named}.")
        self.numbers = list(numbers)


class PartsChanged(UploadConflict):
    code = "parts_changed"

    def __init__(self) -> None:
        super().__init__("A part was sent while the upload was completed; complete it again.")
