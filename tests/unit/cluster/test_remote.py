from __future__ import annotations

import pickle
import subprocess
import sys

from imagesync.standalone.programs import Remote, RemoteObject


def test_remote_function_runs_without_imagesync() -> None:
    code = "import pickle, sys; print(sorted(pickle.loads(sys.stdin.buffer.read())()))"
    pickled = pickle.dumps(Remote("member_facts", "facts"), protocol=4)
    assert b"imagesync.cluster.agreement" not in pickled
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], input=pickled, capture_output=True, check=True
    )
    assert b"'distributions'" in done.stdout


def test_remote_object_is_made_where_it_is_unpickled() -> None:
    made = pickle.loads(
        pickle.dumps(RemoteObject(Remote("apply_sync", "installed_path"), "a-1.0.data/purelib/a.py"))
    )
    assert made == "a.py"
