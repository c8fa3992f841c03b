"""What can go wrong with studies: the part of `store.errors` that is about them alone."""

from store.errors import JobNotFound, StoreError


class StudyNotFound(JobNotFound):
    code = "study_not_found"
    noun = "study"


class InStudy(StoreError):
    """A study is judged by it, or has it as a part."""

    code = "in_study"

    def __init__(self, study_id: str) -> None:
        super().__init__(f"The study {study_id} is judged by it; delete that, and it goes along.")
        self.study_id = study_id


class NotJudged(StoreError):
    """There is no verdict yet."""

    code = "not_judged"

    def __init__(self, study_id: str) -> None:
        super().__init__("It has not been judged yet; its `state` and `stage` say how far it is.")
        self.study_id = study_id


class NotExtensible(StoreError):
    """More seeds than it may have, or none at this moment."""

    code = "not_extensible"
