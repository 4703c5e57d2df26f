"""The server around real models: the decisions of `infer.apply`, and nothing compiled once it is ready."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from infer.serve.compilations import COMPILATIONS
from tests.serving import letter_deployment, random_engine, random_texts, served


@pytest.mark.parametrize("task", ["classification", "translation"])
def test_decisions_are_those_of_apply_and_nothing_compiles_later(task):
    engine = random_engine(task, longest=16)
    texts = random_texts(300, seed=5)
    expected = engine.answer({"text": texts})
    clear = np.abs(expected.log_score - engine.policy.stages[0].threshold) > 1e-4  # float32 sums in another order
    assert 60 < expected.deferred.sum() < 240 and clear.sum() > 280
    COMPILATIONS.listen()
    engine.compile_shapes()

    with served(lambda config: letter_deployment(engine)) as server, ThreadPoolExecutor(8) as pool:
        before = COMPILATIONS.count
        starts = np.cumsum([0, *np.random.default_rng(0).integers(1, 16, 60)])
        starts = [*starts[starts < len(texts)].tolist(), len(texts)]
        answers = pool.map(lambda i: server.predict(*texts[starts[i] : starts[i + 1]]), range(len(starts) - 1))
        outputs = [output for status, _, answer in answers for output in answer["outputs"]]
        lines = server.ask("GET", "/metrics")[2].decode().splitlines()
        assert COMPILATIONS.count == before and "edgewise_compilations 0.0" in lines

    deferred = np.array([output["deferred"] for output in outputs])
    predictions = np.array([output["prediction"] for output in outputs], dtype=object)
    assert (deferred == expected.deferred)[clear].all() and (predictions == expected.prediction)[clear].all()
    np.testing.assert_allclose([output["score"] for output in outputs], expected.score, atol=1e-4)
    assert {output["model"] for output in outputs} == {"small-s0", "base-s0"}
