"""Puts a switcher's models on the devices."""

from conf.schema import Config
from infer.engine.engine import Engine
from infer.switcher.find import FoundSwitcher
from train.model_artifact import Model, load_model
from train.sharding import make_mesh


def load_engine(found: FoundSwitcher, config: Config) -> Engine:
    """Returns the engine of a switcher, its models over the mesh that the config names, and checked.

    Raises EdgewiseError where a model was altered, isn't one, or computes something else than when its scores were
    made; TrackingError where the store's copy is damaged.
    """
    mesh = make_mesh(config.mesh)
    models: dict[str, Model] = {}
    for artifact in found.models:
        if artifact.digest not in models:
            models[artifact.digest] = load_model(artifact, mesh)
    stages = [models[artifact.digest] for artifact in found.models]
    engine = Engine(found.policy, stages, mesh, config.infer, config.train.attention)
    engine.check()
    return engine
