"""Names the files of tests that take longest, so that a run can begin with them."""

# pytest-xdist hands out whole files, those with the most tests first; these have few tests, and half a minute or more.
LONGEST = (
    "test_sweeps_wandb.py",
    "test_sweeps_pipeline.py",
    "test_train_loop.py",
    "test_sweeps_launchers.py",
    "test_train_sharding.py",
    "test_tracking_causes.py",
    "test_tracking_failures.py",
    "test_tracking_transfer.py",
    "test_infer_generation.py",
    "test_conf_experiments.py",
    "test_train_seeds.py",
    "test_contributing.py",
    "test_train_model_selection.py",
    "test_train_step_reference.py",
    "test_metrics_wandb_report.py",
    "test_sweeps_results.py",
    "test_sweeps_check.py",
    "test_train_identity.py",
    "test_train_hosts.py",
    "test_train_data_source.py",
)
