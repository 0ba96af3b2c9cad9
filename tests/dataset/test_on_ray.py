"""Ray's table is the local one, to the bit."""

import os
import sys

import numpy as np
import pandas as pd
import pytest
from rendered import classifier

import vizlib as vl
from vizlib.dataset.results import results_of

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'vizlib[ray]'")


@pytest.fixture(scope="module")
def _cluster():
    try:
        ray.init(
            num_cpus=3, log_to_driver=False, include_dashboard=False, logging_level="ERROR",
            runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}},  # the network is one of tests/
        )  # fmt: skip
    except Exception as error:  # Ray raises nothing more special
        if "timed out during startup" not in str(error):
            raise
        pytest.skip("Ray did not start within its own 30 seconds: this machine is busy")
    yield
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.usefixtures("_cluster")
def test_the_table_of_two_workers_is_that_of_this_machine(tmp_path):
    photos = vl.data.shortcuts(40, split="test", size=32).save(tmp_path / "photos")
    (photos / "disc" / "notes.txt").write_text("no image")
    clf, options = classifier(), {"batch": 8, "methods": "gradcam"}
    here = vl.dataset.predict(clf, photos, out=tmp_path / "here", **options)
    there = vl.dataset.predict(clf, photos, out=tmp_path / "there", backend="ray", workers=2, **options)
    pd.testing.assert_frame_equal(here, there, check_exact=True)
    assert here.attrs["unreadable"] == there.attrs["unreadable"] != {}
    for column in ("features", "probabilities"):
        np.testing.assert_array_equal(results_of(here).arrays(column), results_of(there).arrays(column))
    maps = [vl.dataset.explain(clf, table)["gradcam"].read() for table in (here, there)]
    np.testing.assert_array_equal(*maps)
    later = [
        vl.dataset.explain(clf, table[~table["correct"]], "layercam", batch=8, **options)["layercam"]
        for table, options in ((here, {}), (there, {"backend": "ray", "workers": 2}))
    ]
    assert later[0].rows.tolist() == later[1].rows.tolist() == here[~here["correct"]]["row"].tolist()
    np.testing.assert_array_equal(*(maps.read() for maps in later))
    again = vl.dataset.predict(clf, photos, out=tmp_path / "there", backend="local", **options)  # nothing is left
    pd.testing.assert_frame_equal(again, there, check_exact=True)
