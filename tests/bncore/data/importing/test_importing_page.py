"""docs/importing.md says what is so."""

import json
import re
from pathlib import Path

from bncore.data.importing import bounds
from bncore.spec.importing import ImportSpec, load_import

PAGE = (Path(__file__).parents[4] / "docs" / "importing.md").read_text()


def test_its_examples_work(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{row},{row * row},{'iris' if row % 2 else 'rose'}\n" for row in range(8))
    Path("flowers.csv").write_text("width,height,species\n" + rows)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(code, {})
    assert "classification with 2 classes (iris, rose)" in capsys.readouterr().out
    assert (tmp_path / "flowers" / "dataset.json").exists()
    options = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert len(options) == 2
    for text in options:
        load_import(json.loads(text))


def test_it_names_every_option_format_and_limit() -> None:
    for name in ImportSpec.model_fields:
        assert f"`{name}`" in PAGE
    for format in ("npz", "csv", "parquet", "folders", "idx", "cifar", "huggingface"):
        assert f"| `{format}` |" in PAGE
    words = [f"{bounds.FEATURES:,} features", f"{bounds.COLUMNS:,} columns", f"{bounds.ENTRIES:,} entries"]
    words += [f"{bounds.EXAMPLES // 10**6} million examples", f"{bounds.PIXELS // 10**6} million pixels"]
    words += [
        f"{bounds.RATIO} times",
        f"at most {bounds.CATEGORIES} values",
        f"at most {bounds.FILE_BYTES // 10**9} GB",
    ]
    for said in words:
        assert said in PAGE.replace("\n", " ")
