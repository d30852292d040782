"""brt beside the PyTorch package: training steps and generation in turn, as one table. README.md here explains it."""
import argparse
import array
import itertools
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
SEED = 2022
WARM_UPS = 2
SEGMENTS_PER_SAMPLE = 2
# What makes the package fast: an allocator that takes huge pages and gives nothing back, and MKL's AVX-512 kernels on
# processors of every maker (setup_peer.sh).
TUNED = dict(LD_PRELOAD=f"libjemalloc.so.2:{sys.prefix}/lib/mkl_avx512.so",
             MALLOC_CONF="thp:always,metadata_thp:always,dirty_decay_ms:-1,muzzy_decay_ms:-1")
# What bounds a case, as brt bench names it, and the words for it.
LIMITS = dict(peak_f32_gflops="{:.0f} GFLOP/s f32", peak_bf16_gflops="{:.0f} GFLOP/s bf16",
              read_gbytes_per_s="reads {:.1f} GB/s")
# How far apart the losses of the first steps may be, relative to the loss.
LOSS_TOLERANCE = dict(f32=1e-5, bf16=2e-4)


def say(text):
    print(text, file=sys.stderr, flush=True)


# ---- what is measured

@dataclass(frozen=True)
class Case:
    name: str
    task: tuple         # what opens a side: "train" and the rows, or "generate"
    dtype: str          # of our products, or of the weights for generation
    settings: tuple     # (dtype, attention) of the package; the fastest is the peer
    ours: str           # the request to our side
    peer: str           # and to the package's
    limit: str          # what of the machine bounds it
    unit: str           # of the seconds when printed


def training(rows, dtype):
    return Case(name=f"training step, batch {rows}, {dtype}", task=("train", rows), dtype=dtype,
                settings=((dtype, "plain"), (dtype, "flash")),
                ours="step", peer="step", limit=f"peak_{dtype}_gflops", unit="s")


def generation(name, dtype, ours, peer):
    """Tokens of a timeline. Where the package would take minutes it draws only a few; ours are then all of the block
    that ends there, so that what is due at its end has its share."""
    return Case(name=f"generation, {name}, {dtype}", task=("generate",), dtype=dtype,
                settings=tuple(itertools.product(("f32", "bf16"), ("plain", "flash"))),
                ours="generate {} {}".format(*ours), peer="generate {} {}".format(*peer),
                limit="read_gbytes_per_s", unit="ms")


def late_token(window, dtype):
    """The last one of the second window: the package has a full window to recompute, and memories."""
    whole = 2 * window
    return generation(f"token {whole:,}", dtype, ours=(window + window // 2, whole), peer=(whole - 1, whole))


def all_cases(window, dtypes):
    middle = window + window // 2
    return [training(rows, dtype) for rows in (1, 4) for dtype in dtypes] + [
        generation("tokens 128 to 256", "f32", ours=(128, 256), peer=(128, 256)),
        generation(f"token {middle:,}", "f32", ours=(window, middle), peer=(middle - 8, middle)),
        *(late_token(window, dtype) for dtype in ("f32", "bf16", "int8"))]


def short_cases(window):
    """A first look, in float32."""
    return [replace(case, settings=tuple(setting for setting in case.settings if setting[0] == "f32"))
            for case in (training(1, "f32"), late_token(window, "f32"))]


# ---- the two sides

def busy_seconds():
    """Processor time that was used on this machine, or kept from it by others on the same hardware."""
    user, nice, system, _, _, irq, softirq, steal = Path("/proc/stat").read_text(encoding="utf-8").split()[1:9]
    return sum(map(int, (user, nice, system, irq, softirq, steal))) / os.sysconf("SC_CLK_TCK")


def own_seconds(process):
    """Processor time of one process."""
    after_name = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return sum(map(int, after_name[11:13])) / os.sysconf("SC_CLK_TCK")


class Side:
    """A process that answers every line it is given with a line of JSON."""

    def __init__(self, *command, **environment):
        self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env={**os.environ, **environment})

    def ask(self, request):
        """The answer, and in it the share of the processors that others had meanwhile ("elsewhere")."""
        start, before = time.monotonic(), self.seconds_elsewhere()
        try:
            print(request, file=self.process.stdin, flush=True)
        except BrokenPipeError:
            pass  # there will be no answer
        answer = self.process.stdout.readline()
        if not answer:
            self.fail()
        share = (self.seconds_elsewhere() - before) / (time.monotonic() - start) / os.cpu_count()
        return dict(json.loads(answer), elsewhere=share)

    def seconds_elsewhere(self):
        return busy_seconds() - own_seconds(self.process.pid)

    def peak_memory(self):
        """In bytes: the largest resident memory so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])

    def close(self):
        self.process.stdin.close()
        if self.process.wait() != 0:
            self.fail()

    def fail(self):
        sys.exit(f"bench_peer: status {self.process.wait()} of: {' '.join(self.process.args)}")


class Bench:
    """Opens sides that have the same model, tokens and number of threads."""

    def __init__(self, arguments, folder):
        self.threads, self.build, self.folder = arguments.threads, arguments.build, folder
        self.environment = dict(OMP_NUM_THREADS=str(self.threads), PYTHONWARNINGS="ignore",
                                **({} if arguments.as_installed else TUNED))
        self.config = self.ask_brt("info", "--preset", "reference")["config"]
        (folder / "config.json").write_text(json.dumps(self.config), encoding="utf-8")
        self.open_peer("make", folder).close()

    def ask_brt(self, *words):
        answer = subprocess.run([self.build / "brt", *words, "--json"], check=True, stdout=subprocess.PIPE, text=True)
        return json.loads(answer.stdout)

    def measure_limits(self):
        """What the machine can do at this moment; without bf16 where the processor has no products of them."""
        machine = self.ask_brt("bench", "machine", "--threads", str(self.threads))["machine"][0]
        return {limit: machine[limit] for limit in LIMITS if machine[limit] is not None}

    def dtypes_of_products(self):
        limits = self.measure_limits()
        return [dtype for dtype in ("f32", "bf16") if f"peak_{dtype}_gflops" in limits]

    def open_ours(self, *words):
        return Side(self.build / "bench" / "brt_side", self.threads, *words)

    def open_peer(self, *words):
        return Side(sys.executable, HERE / "peer_side.py", self.threads, *words, **self.environment)

    def open_case(self, case):
        """Our side, and the package's for each of its settings."""
        task, *rows = case.task
        tokens = self.write_tokens(*rows or [1])
        ours = (self.open_ours("train", self.folder, tokens, *rows, case.dtype) if task == "train" else
                self.open_ours("generate", self.quantize(case.dtype), tokens))
        return ours, {setting: self.open_peer(task, self.folder, tokens, *rows, *setting) for setting in case.settings}

    def quantize(self, dtype):
        """A model with weights of this type."""
        if dtype == "f32":
            return self.folder
        folder = self.folder / dtype
        self.ask_brt("quantize", self.folder, folder, "--dtype", dtype)
        return folder

    def write_tokens(self, rows):
        """A file of random tokens: [rows, sample and the token that follows]."""
        path = self.folder / f"{rows}-rows.bin"
        count = rows * (SEGMENTS_PER_SAMPLE * self.config["max_seq_len"] + 1)
        path.write_bytes(array.array("H", random.Random(SEED).choices(range(self.config["num_tokens"]), k=count)))
        return path


# ---- measuring

def loss_difference(case, ours, peer):
    """Relative to the package's loss. Sides that compute something else are not worth a comparison."""
    difference = abs(ours["loss"] - peer["loss"]) / peer["loss"]
    if difference > LOSS_TOLERANCE[case.dtype]:
        sys.exit(f"bench_peer: {case.name}: brt's loss is {ours['loss']}, the package's {peer['loss']}: the two do not "
                 "compute the same")
    return difference


def warm_up(case, ours, peers):
    """The largest difference between the losses of the first steps; None where there are none."""
    differences = []
    for _ in range(WARM_UPS if case.task[0] == "train" else 1):
        our_answer, answers = ours.ask(case.ours), [peer.ask(case.peer) for peer in peers.values()]
        differences += [loss_difference(case, our_answer, answer) for answer in answers if "loss" in answer]
    return max(differences, default=None)


def measure_round(case, bench, ours, peers):
    limits, our_answer = bench.measure_limits(), ours.ask(case.ours)
    answers = {setting: peer.ask(case.peer) for setting, peer in peers.items()}
    return dict(limits=limits, work=our_answer["work"], ours=our_answer["seconds"],
                peer={setting: answer["seconds"] for setting, answer in answers.items()},
                elsewhere=max(answer["elsewhere"] for answer in (our_answer, *answers.values())))


def measure(bench, case, round_count):
    say(case.name)
    ours, peers = bench.open_case(case)
    difference = warm_up(case, ours, peers)
    rounds = []
    for number in range(1, round_count + 1):
        rounds.append(measure_round(case, bench, ours, peers))
        times = ", ".join(f"{name_of(setting)} {seconds:.4f} s" for setting, seconds in rounds[-1]["peer"].items())
        say(f"  round {number} of {round_count}: {rounds[-1]['ours']:.4f} s; the package, {times}")
    result = summarise(case, rounds, ours, peers)
    for side in (ours, *peers.values()):
        side.close()
    return dict(result, loss_difference=difference)


def name_of(setting):
    return ", ".join(setting)


def summarise(case, rounds, ours, peers):
    """Medians of the rounds, where ratios and fractions are those of one round."""
    best = min(case.settings, key=lambda setting: median(r["peer"][setting] / r["ours"] for r in rounds))

    def fraction(seconds):
        return median(r["work"] / seconds(r) / r["limits"][case.limit] for r in rounds)

    return dict(case=case.name, unit=case.unit, dtype=case.dtype, limit=case.limit,
                ours=median(r["ours"] for r in rounds), peer=median(r["peer"][best] for r in rounds),
                ratio=median(r["peer"][best] / r["ours"] for r in rounds),
                our_fraction=fraction(lambda r: r["ours"]), peer_fraction=fraction(lambda r: r["peer"][best]),
                our_memory=ours.peak_memory(), peer_memory=peers[best].peak_memory(), peer_setting=name_of(best),
                every_setting={name_of(setting): dict(seconds=median(r["peer"][setting] for r in rounds),
                                                      memory=peer.peak_memory()) for setting, peer in peers.items()},
                limits={limit: median(r["limits"][limit] for r in rounds) for limit in rounds[0]["limits"]},
                elsewhere=max(r["elsewhere"] for r in rounds))


# ---- printing

def time_text(seconds, unit):
    return f"{1e3 * seconds:.3g} ms" if unit == "ms" else f"{seconds:.2f} s"


def ratio_text(ratio):
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"


def percent_text(fraction):
    return f"{100 * fraction:.1f} %" if fraction < 0.1 else f"{100 * fraction:.0f} %"


def memory_text(size):
    return f"{size / 1e9:.2f} GB"


def table(results):
    """In Markdown."""
    rows = [("case", "brt", "package", "ratio", "of the limit: brt", "package", "peak memory: brt", "package",
             "its setting"), ["---"] * 9]
    for r in results:
        rows.append((r["case"], time_text(r["ours"], r["unit"]), time_text(r["peer"], r["unit"]),
                     ratio_text(r["ratio"]), percent_text(r["our_fraction"]), percent_text(r["peer_fraction"]),
                     memory_text(r["our_memory"]), memory_text(r["peer_memory"]), r["peer_setting"]))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def notes(run):
    """What has to be known to read the table."""
    results = run["results"]
    limits = ", ".join(words.format(median(r["limits"][limit] for r in results)) for limit, words in LIMITS.items()
                       if limit in results[0]["limits"])
    differences = {}
    for r in results:
        if r["loss_difference"] is not None:
            differences[r["dtype"]] = max(r["loss_difference"], differences.get(r["dtype"], 0))
    losses = ", ".join(f"{difference:.0e} ({dtype})" for dtype, difference in differences.items())
    elsewhere = percent_text(max(r["elsewhere"] for r in results))
    threads = "1 thread" if run["threads"] == 1 else f"{run['threads']} threads"
    installed = " as installed" if run["as_installed"] else ""
    return (f"{run['processor']}, {threads}: {limits}. PyTorch {run['torch']}{installed}; medians of {run['rounds']} "
            f"rounds in turn, during which other programs had up to {elsewhere} of the processors. The losses of the "
            f"first steps agree to {losses} of themselves.")


def processor():
    names = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
             if line.startswith("model name")]
    return names[0] if names else platform.machine()


# ---- the whole

def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=Path("build"), help="where brt is built (build)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of both sides")
    parser.add_argument("--rounds", type=int, help="to take medians of (3; with --short 1)")
    parser.add_argument("--short", action="store_true", help="a training step and a late token in float32 only")
    parser.add_argument("--as-installed", action="store_true",
                        help="the package without jemalloc and without MKL's AVX-512 kernels")
    parser.add_argument("--json", type=Path, help="where all figures go (BUILD/bench-peer.json)")
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (1 if arguments.short else 3)
    arguments.json = arguments.json or arguments.build / "bench-peer.json"
    return arguments


def main():
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="brt-bench-") as folder:
        bench = Bench(arguments, Path(folder))
        window = bench.config["max_seq_len"]
        cases = short_cases(window) if arguments.short else all_cases(window, bench.dtypes_of_products())
        results = [measure(bench, case, arguments.rounds) for case in cases]
    run = dict(processor=processor(), threads=arguments.threads, rounds=arguments.rounds, torch=version("torch"),
               package=version("block-recurrent-transformer-pytorch"), as_installed=arguments.as_installed,
               results=results)
    arguments.json.write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")
    say(f"All figures: {arguments.json}\n")
    print(f"{table(results)}\n\n{notes(run)}")


main()
