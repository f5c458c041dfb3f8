"""The measuring process, and what is made of it when it ends badly."""

import io
import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import unet_nas.profile
from unet_nas import cli
from unet_nas.audit.audit import audit
from unet_nas.audit.memory import Training
from unet_nas.errors import InputError, SizeError
from unet_nas.profile import worker
from unet_nas.profile.job import Job
from unet_nas.profile.profile import _ending, profile
from unet_nas.profile.workload import Workload, make_optimizer, make_workload
from unet_nas.records import Profile
from unet_nas.unet.architecture import Architecture
from unet_nas.unet.dump import to_tree
from unet_nas.unet.graph import lower
from unet_nas.unet.load import preset, preset_names

TINY = Architecture(depth=2, width=4, kernel_size=[3, 1, 3], down=["max_pool", "strided_conv"])
SIZE = (16, 24)
TRAINING = Training(optimizer="sgd", implementation="single", loss="dice_cross_entropy")
NETWORKS = """
import os, signal
from torch import nn

class Dies(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)

    def forward(self, x):
        if self.training:
            print("a network may print what it likes")
            os.kill(os.getpid(), signal.SIGKILL)
        return self.conv(x)
"""


@pytest.fixture(scope="module")
def measured() -> Profile:
    """A profile of a small network with all its processes."""
    return unet_nas.profile(
        TINY, patch_size=SIZE, batch_size=2, training=TRAINING, repeats=2, warmup=1, threads=1
    )


def test_measured_is_what_was_predicted(measured: Profile) -> None:
    predicted = audit(TINY, patch_size=SIZE, batch_size=2, training=TRAINING)
    assert measured.failures == {}
    assert measured.counts is not None
    assert measured.counts.trainable_parameters == predicted.parameters
    assert measured.counts.macs == measured.counts.flop_counter_macs == predicted.macs
    assert measured.training_memory is not None
    assert measured.inference_memory is not None
    assert measured.training_memory.tensor_bytes == predicted.peak_training_bytes
    assert measured.inference_memory.tensor_bytes == predicted.peak_inference_bytes
    assert measured.training_memory.allocated_bytes >= predicted.peak_training_bytes


def test_conditions_and_latencies_are_recorded(measured: Profile) -> None:
    conditions = measured.conditions
    assert conditions is not None
    assert (conditions.device, conditions.threads, conditions.batch_size) == ("cpu", 1, 2)
    assert (conditions.patch_size, conditions.in_channels) == (SIZE, 1)
    assert (conditions.optimizer, conditions.precision) == ("sgd (single)", "fp32")
    assert conditions.torch_version == torch.__version__
    inference, training = measured.latency("inference"), measured.latency("training")
    assert inference is not None
    assert training is not None
    assert inference.median_ms > 0
    assert inference.samples >= 2
    assert measured.latency("inference", compiled=True) is None


def test_a_profile_goes_to_json_and_back(measured: Profile) -> None:
    assert Profile.from_json(measured.to_json()) == measured


# --- bad ends -------------------------------------------------------------------------------


def test_running_out_of_memory_is_a_result() -> None:
    found = profile(
        "preset:unet-2015",
        patch_size=(1020, 1020),
        batch_size=32,
        parts=("inference_latency", "counts"),
        memory_limit_bytes=4 * 2**30,
        threads=1,
    )
    assert {failure.kind for failure in found.failures.values()} == {"out_of_memory"}
    assert set(found.failures) == {"inference_latency", "counts"}
    assert "allocate" in found.failures["inference_latency"].reason
    assert found.conditions is not None


def test_a_killed_process_keeps_what_it_had_measured(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "dying.py").write_text(NETWORKS)
    (tmp_path / "random.py").write_text("raise RuntimeError('not the one of Python')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    found = profile(
        "python:dying:Dies", patch_size=(8, 8), parts=("counts", "training_latency"), repeats=1
    )
    assert found.counts is not None
    assert found.counts.macs == 6 * 64
    assert found.conditions is not None
    assert found.conditions.in_channels == 3
    failure = found.failures["training_latency"]
    assert failure.kind == "killed"
    assert "SIGKILL, as the system does where memory runs out" in failure.reason


def test_a_process_that_takes_too_long_is_ended() -> None:
    found = profile(TINY, patch_size=SIZE, parts=("counts",), time_limit_s=0.2)
    assert found.failures["counts"].kind == "timeout"
    assert "0.2 s" in found.failures["counts"].reason
    assert found.conditions is None


@pytest.mark.parametrize(
    ("code", "stderr", "kind"),
    [
        (0, "", None),
        (1, "Traceback\nValueError: no", "failed"),
        (1, "Traceback\nMemoryError", "out_of_memory"),
        (-6, "terminate called\n  what():  std::bad_alloc\n", "out_of_memory"),
        (-11, "", "killed"),
    ],
)
def test_how_a_process_ends(code: int, stderr: str, kind: str | None) -> None:
    end = _ending(code, stderr)
    assert (None if end is None else end.kind) == kind


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    ],
)
def test_errors_of_memory_are_recognised(error: Exception) -> None:
    assert worker.failure_of(error).kind == "out_of_memory"


# --- what is refused ------------------------------------------------------------------------


def test_what_cannot_run_is_refused_before_any_process(monkeypatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    with pytest.raises(SizeError):
        profile(TINY, patch_size=(16,))
    with pytest.raises(InputError, match="at least 1 sample, got 0"):
        profile(TINY, patch_size=SIZE, batch_size=0)
    with pytest.raises(InputError, match="repeats must be at least 1, got 0"):
        profile(TINY, patch_size=SIZE, repeats=0)
    with pytest.raises(InputError, match="this one says 1"):
        profile(TINY, patch_size=SIZE, in_channels=3)
    with pytest.raises(InputError, match="must be named python:"):
        profile("python:nets", patch_size=SIZE)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu_is_refused_in_one_sentence(capsys) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["profile", "preset:phasenet", "--patch-size", "512", "--device", "cuda"])
    assert end.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("unet-nas: --device cuda needs a GPU; this torch (")


def test_channels_last_needs_two_or_three_dimensions() -> None:
    job = Job(network="python:torch.nn:Flatten", patch_size=(8,), in_channels=2, channels_last=True)
    with pytest.raises(InputError, match="2 or 3 spatial dimensions"):
        make_workload(job)


# --- inside the process ---------------------------------------------------------------------


def job_of(architecture: Architecture, **options) -> Job:
    return Job(
        network="architecture",
        architecture=json.dumps(to_tree(architecture)),
        patch_size=SIZE,
        in_channels=architecture.in_channels,
        repeats=1,
        warmup=1,
        **options,
    )


def lines_of(job: Job) -> list[dict]:
    results = io.StringIO()
    worker.run_job(job, results)
    return [json.loads(line) for line in results.getvalue().splitlines()]


@pytest.mark.parametrize("precision", ["bf16", "fp16", "pure-bf16", "pure-fp16"])
def test_every_precision_runs(precision: str) -> None:
    parts = ("counts", "inference_latency", "training_latency")
    lines = lines_of(job_of(TINY, training=Training(precision=precision), parts=parts))
    assert [line["part"] for line in lines if "value" in line] == list(parts)


def test_compiled_latency_compiles_and_says_so(monkeypatch) -> None:
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda module: compiled.append(module) or module)
    parts = ("compiled_inference_latency", "compiled_training_latency")
    lines = lines_of(job_of(TINY, parts=parts))
    assert [line["value"]["compiled"] for line in lines if "value" in line] == [True, True]
    assert len(compiled) == 2


def test_a_part_that_fails_does_not_end_the_others(monkeypatch) -> None:
    monkeypatch.setattr(Workload, "infer", lambda self: 1 / 0)
    lines = lines_of(job_of(TINY, parts=("inference_latency", "training_latency")))
    failure = next(line["failure"] for line in lines if "failure" in line)
    assert failure == {"kind": "failed", "reason": "ZeroDivisionError: division by zero"}
    assert any(line.get("part") == "training_latency" and "value" in line for line in lines)


def test_a_limit_of_memory_is_that_of_the_job(monkeypatch) -> None:
    limits = []
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limit: limits.append((kind, limit[0])))
    lines_of(job_of(TINY, parts=(), memory_limit_bytes=2**40))
    assert limits == [(resource.RLIMIT_AS, 2**40)]


@pytest.mark.parametrize("implementation", ["single", "foreach", "fused"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_the_optimizer_is_the_one_that_is_named(optimizer: str, implementation: str) -> None:
    training = Training(optimizer=optimizer, implementation=implementation)
    made = make_optimizer(nn.Linear(2, 2), training)
    assert type(made).__name__.lower() == optimizer
    flags = {"foreach": made.defaults["foreach"], "fused": made.defaults["fused"]}
    assert flags == {"foreach": implementation == "foreach", "fused": implementation == "fused"}


@pytest.mark.parametrize("name", preset_names())
def test_an_architecture_is_the_same_in_the_measuring_process(name: str) -> None:
    sent = Architecture.model_validate_json(json.dumps(to_tree(preset(name))))
    assert lower(sent).digest() == lower(preset(name)).digest()


# --- the command ----------------------------------------------------------------------------


def test_the_command_prints_predicted_beside_measured(measured, monkeypatch, capsys) -> None:
    asked = {}

    def fake(network, **options) -> Profile:
        asked.update(options)
        return measured

    monkeypatch.setattr("unet_nas.profile.profile.profile", fake)
    command = ["profile", "preset:unet-2015", "--patch-size", "188x188", "--batch", "2"]
    cli.app([*command, "--optimizer", "sgd", "--channels-last"], standalone_mode=False)
    out = capsys.readouterr().out
    assert "31,030,658" in out
    assert f"{measured.counts.macs:,}" in out
    assert "without workspaces of operators" in out
    assert "median of" in out
    assert asked["patch_size"] == (188, 188)
    assert asked["channels_last"]
    assert asked["training"].optimizer == "sgd"

    cli.app([*command, "--json"], standalone_mode=False)
    data = json.loads(capsys.readouterr().out)
    assert data["predicted"]["parameters"] == 31_030_658
    assert data["measured"]["counts"]["macs"] == measured.counts.macs


def test_a_factory_that_does_not_exist_ends_with_2(capsys, monkeypatch, tmp_path) -> None:
    """The process itself is left out: what it writes is read as if it had run."""

    def spawn(folder: Path, time_limit_s: float) -> None:
        worker.main(str(folder / "job.json"), str(folder / "results.jsonl"))

    monkeypatch.setattr("unet_nas.profile.profile._spawn", spawn)
    with pytest.raises(SystemExit) as end:
        cli.main(["profile", "python:torch.nn:Nothing", "--patch-size", "8x8"])
    assert end.value.code == 2
    assert "unet-nas: python:torch.nn:Nothing: torch.nn has no 'Nothing'" in capsys.readouterr().err


def test_static_imports_need_no_torch() -> None:
    names = ("unet_nas.profile.profile", "unet_nas.records", "unet_nas.report.profile_tables")
    code = f"import sys, {', '.join(names)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_checkpointing_costs_nothing_in_inference() -> None:
    """In evaluation nothing is recomputed, so what enters a unit is freed as always."""
    checkpoint = ("encoder.stages.0", "decoder.stages.0", "bottleneck")
    parts = ("inference_memory",)
    jobs = [job_of(TINY, parts=parts, training=Training(checkpoint=c)) for c in ((), checkpoint)]
    plain, checkpointed = (lines_of(job)[-1]["value"]["tensor_bytes"] for job in jobs)
    assert plain == checkpointed == audit(TINY, patch_size=SIZE).peak_inference_bytes
