"""torch is imported only by the trainer process and by whoever uses bncore as a library.

The import contracts in pyproject.toml see our own import statements; this sees what really gets loaded.
"""

import json
import subprocess
import sys

import grimp

PACKAGES = ("api", "worker", "bncore", "store", "client", "migrations")

IMPORT_ALL = """
import importlib, json, pkgutil, sys

def load(name):
    module = importlib.import_module(name)
    for inner in pkgutil.iter_modules(getattr(module, "__path__", ())):
        load(f"{name}.{inner.name}")

for name in sys.argv[1:]:
    load(name)
print(json.dumps(sorted(sys.modules)))
"""


def loaded_after(code: str, *names: str) -> set[str]:
    """The modules of a fresh interpreter that has run the code."""
    done = subprocess.run([sys.executable, "-c", code, *names], check=True, capture_output=True)
    return set(json.loads(done.stdout))


def test_no_module_imports_one_that_imports_it() -> None:
    # Imports for type checkers alone count as well: who needs a circle to say its types has them in the wrong place.
    graph = grimp.build_graph(*PACKAGES)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert imports["bncore.recurrent.step_batch_norm"]
    # A module that imports nothing that is left is in no circle.
    while free := {module for module, imported in imports.items() if not imported}:
        imports = {module: imported - free for module, imported in imports.items() if module not in free}
    assert not imports


def test_no_module_of_a_package_outside_bncore_loads_torch() -> None:
    loaded = loaded_after(f"import migrations\n{IMPORT_ALL}", "api", "worker", "store", "client")
    assert loaded >= {"api.__main__", "worker.relay", "store.__main__", "client.cli"}
    assert not loaded & {"torch", "pyarrow", "PIL", "scipy", "vl_convert"}


def test_the_shared_part_of_bncore_needs_neither_torch_nor_numpy() -> None:
    shared = ("events", "garbage", "hand_over", "lifeline", "run_directory", "seeds", "spec", "zygote")
    loaded = loaded_after(IMPORT_ALL, *(f"bncore.{name}" for name in shared))
    assert "bncore.spec.plan" in loaded
    assert not loaded & {"torch", "numpy"}


def test_importing_bncore_loads_no_torch() -> None:
    code = "import bncore, json, sys; print(json.dumps(sorted(sys.modules)))"
    assert "torch" not in loaded_after(code)


def test_neither_a_trainer_nor_importing_the_library_loads_a_compiler() -> None:
    # It takes longer to import than all the rest of torch.
    packages = "bncore.adapt, bncore.diagnostics, bncore.norm, bncore.recurrent"
    trains = "from bncore.train.warmup import warm_up; warm_up()"
    loaded = loaded_after(f"import {packages}, json, sys; {trains}; print(json.dumps(sorted(sys.modules)))")
    assert loaded >= {"bncore.norm.sync_batch_norm", "bncore.train.trainer"}
    assert not loaded & {"torch._dynamo", "torch._inductor", "sympy"}
