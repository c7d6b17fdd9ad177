"""Builds the kernels: one extension module an ISA and, where nvcc is found, one for CUDA, every object in parallel.
No torch and no GPU is needed to build.

Environment variables:
  FASTRNN_ISAS       comma-separated subset of the ISAs to build (default: all that the target knows)
  FASTRNN_SANITIZE   1: AddressSanitizer and UndefinedBehaviorSanitizer
  FASTRNN_CUDA       auto: CUDA kernels where nvcc is found and compiles them (default); 1: an error where it does not;
                     0: none
  FASTRNN_CUDA_ARCHS comma-separated, for instance 80,90a: machine code for each, and PTX of the newest up to 90 for
                     later GPUs (default: those that nvcc knows of 80 86 89 90a 100 120)
  NVCC, CUDA_HOME    the compiler, or the toolkit's folder (default: nvcc in the PATH, then /usr/local/cuda)
  MAX_JOBS           compiler processes at once (default: the number of cores)
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pybind11
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

ROOT = Path(__file__).parent.resolve()
SANITIZE = os.environ.get("FASTRNN_SANITIZE", "0") == "1"

# name -> compiler flags, for the machine that is compiled for
ISAS = {"baseline": []}
if sysconfig.get_platform().endswith(("x86_64", "amd64")):
    ISAS["avx2"] = ["-mavx2", "-mfma"]
    ISAS["avx512"] = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"]


class Bf16Unit(NamedTuple):
    """layer_bf16.cpp, compiled for products of bf16 that only some processors have."""

    namespace: str
    flags: list[str]
    defines: list[str]
    tells: str  # macro by which module.cpp and layer.h learn the namespace
    instruction: str  # what compiler and assembler must know


# ISA -> source -> unit
BF16_UNITS = {
    "avx512": {
        "layer_bf16.cpp": Bf16Unit(
            "avx512bf16",
            ["-mavx512bf16"],
            ["-DFASTRNN_PAIRS"],
            "FASTRNN_WITH_DOTS",
            "vdpbf16ps %zmm0, %zmm0, %zmm0",
        ),
        "layer_amx.cpp": Bf16Unit(
            "avx512amx",
            ["-mavx512bf16", "-mamx-tile", "-mamx-bf16"],
            ["-DFASTRNN_PAIRS", "-DFASTRNN_AMX"],
            "FASTRNN_WITH_AMX",
            "tdpbf16ps %tmm0, %tmm1, %tmm2",
        ),
    }
}

COMMON = [
    "-std=c++17",
    "-fvisibility=hidden",
    "-g0",
    # a*b + c may become one fused operation; nothing here reads errno or floating-point exceptions
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wall",
    "-Wextra",
    "-Wno-psabi",  # vectors are never passed between modules
]
OPTIMISE = [
    "-O1",
    "-g",
    "-fno-omit-frame-pointer",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=undefined",
]
# functions and loops begin at a cache line: where they happen to lie makes 1 to 4 % of a small layer
OPTIMISE = OPTIMISE if SANITIZE else ["-O3", "-falign-functions=64", "-falign-loops=64"]
LINK = ["-fsanitize=address,undefined"] if SANITIZE else ["-s"]


def wanted_isas() -> list[str]:
    chosen = [name for name in os.environ.get("FASTRNN_ISAS", "").split(",") if name] or list(ISAS)
    unknown = sorted(set(chosen) - set(ISAS))
    if unknown:
        raise SystemExit(f"FASTRNN_ISAS names {', '.join(unknown)}; this target knows {', '.join(ISAS)}")
    return chosen


def extension(module: str, sources: list[str], flags: list[str]) -> Extension:
    return Extension(
        f"fastrnn.{module}",
        sources=[f"csrc/cpu/{s}" for s in sources],
        depends=sorted(
            str(p.relative_to(ROOT))
            for pattern in ("*.h", "*.inl", "layer_bf16.cpp")
            for p in (ROOT / "csrc").rglob(pattern)
        ),
        include_dirs=[pybind11.get_include()],
        extra_compile_args=COMMON + OPTIMISE + flags,
        extra_link_args=LINK,
        libraries=["dl"],
        language="c++",
    )


# ---- CUDA ----------------------------------------------------------------------------------------------------------
CUDA_SOURCES = [f"layer_{name}.cu" for name in ("bf16", "f16", "tf32", "f32", "f64")]
ARCHS = ["80", "86", "89", "90a", "100", "120"]


class CudaError(Exception):
    """The CUDA kernels cannot be compiled here, in one line."""


def find_nvcc() -> str | None:
    folders = [f"{os.environ[name]}/bin" for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    path = os.pathsep.join([*folders, os.environ.get("PATH", ""), "/usr/local/cuda/bin"])
    return os.environ.get("NVCC") or shutil.which("nvcc", path=path)


def cuda_choice() -> str:
    choice = os.environ.get("FASTRNN_CUDA", "auto")
    if choice not in ("0", "1", "auto"):
        raise SystemExit(f"FASTRNN_CUDA={choice}: choose 0, 1 or auto")
    return "0" if SANITIZE else choice


def without_cuda(reason: str) -> None:
    """Goes on without CUDA kernels, or not at all."""
    if cuda_choice() == "1":
        raise SystemExit(f"FASTRNN_CUDA=1, but {reason}")
    print(f"warning: fastrnn is built without CUDA kernels: {reason}", file=sys.stderr)


def ask(nvcc: str, *arguments: str) -> str:
    """What nvcc prints, on either stream."""
    try:
        done = subprocess.run([nvcc, *arguments], capture_output=True, text=True, cwd=ROOT)
    except OSError as error:
        raise CudaError(f"{nvcc} does not run: {error.strerror}") from None
    if done.returncode:
        raise CudaError(f"{nvcc} {arguments[0]} failed: {first_line(done.stderr)}")
    return done.stdout + done.stderr


def first_line(text: str) -> str:
    """The first line that names an error, or the first of all."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["it said nothing"]
    return next((line for line in lines if "error" in line.lower()), lines[0])


def cuda_archs(nvcc: str) -> list[str]:
    asked = [a for a in os.environ.get("FASTRNN_CUDA_ARCHS", "").split(",") if a]
    known = ask(nvcc, "--list-gpu-code").split()
    if unknown := [a for a in asked if not re.fullmatch(r"\d+a?", a) or f"sm_{a.rstrip('a')}" not in known]:
        raise SystemExit(f"FASTRNN_CUDA_ARCHS names {', '.join(unknown)}; {nvcc} knows {' '.join(known)}")
    archs = asked or [a for a in ARCHS if f"sm_{a.rstrip('a')}" in known]
    if not archs:
        raise CudaError(f"{nvcc} is too old: it knows none of sm_{', sm_'.join(ARCHS)}")
    return archs


def cuda_extensions() -> list[Extension]:
    """The module of the CUDA kernels, if it is wanted and can be compiled."""
    if cuda_choice() == "0":
        return []
    nvcc = find_nvcc()
    if nvcc is None:
        if cuda_choice() == "1":
            without_cuda("nvcc was not found: install the CUDA toolkit, or set NVCC or CUDA_HOME")
        return []
    try:
        return [cuda_extension(nvcc)]
    except CudaError as error:
        without_cuda(str(error))
        return []


def cuda_extension(nvcc: str) -> Extension:
    archs = cuda_archs(nvcc)
    # The kernels use nothing newer than sm_90's instructions, so its PTX serves every later GPU.
    plain = min(90, max(int(a.rstrip("a")) for a in archs))
    targets = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in archs]
    targets.append(f"-gencode=arch=compute_{plain},code=compute_{plain}")
    toolkit = Path(nvcc).resolve().parent.parent
    if not (toolkit / "include/cuda_runtime.h").exists():  # nvcc is a script that calls the real one
        out = ask(nvcc, "--dryrun", "x.cu").splitlines()
        tops = [line.split("=", 1)[1] for line in out if line.startswith("#$ TOP=")]
        if not tops:
            raise CudaError(f"{nvcc} does not say where its toolkit is")
        toolkit = Path(tops[0]).resolve()
    libraries = map(str, [toolkit / "lib64", toolkit / "lib", *sorted(toolkit.glob("targets/*/lib"))])
    built_for = f'-DFASTRNN_CUDA_ARCHS="{" ".join(archs)}, PTX {plain}"'
    ext = extension("_kernels_cuda", ["../cuda/module.cpp"], [built_for])
    ext.sources = [f"csrc/cuda/{name}" for name in [*CUDA_SOURCES, "module.cpp"]]
    ext.depends += sorted(str(p.relative_to(ROOT)) for p in (ROOT / "csrc/cuda").glob("*.cuh"))
    ext.include_dirs += [str(toolkit / "include")]
    ext.extra_link_args = [*(f"-L{folder}" for folder in libraries), "-lcudart_static", "-lrt", "-lpthread", *LINK]
    ext.nvcc = [nvcc, "-std=c++17", "-O3", "-Xptxas=-v", "-Xcompiler=-fPIC,-fvisibility=hidden", *targets]
    return ext


class BuildKernels(build_ext):
    """Compiles the objects of all modules side by side, skips those that are up to date, then links each module."""

    def build_extensions(self) -> None:
        for ext in self.extensions:
            self.add_bf16_units(ext)
        jobs = int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)
        with ThreadPoolExecutor(jobs) as pool:
            # the longest first
            order = sorted(self.extensions, key=lambda ext: not hasattr(ext, "nvcc"))
            found = {e.name: [pool.submit(self.compile_object, e, source) for source in e.sources] for e in order}
        for ext in list(self.extensions):
            try:
                self.link(ext, [future.result() for future in found[ext.name]])
            except (CudaError, CompileError, LinkError) as error:
                if not hasattr(ext, "nvcc"):
                    raise
                without_cuda(str(error))
                self.extensions.remove(ext)
                Path(self.get_ext_fullpath(ext.name)).unlink(missing_ok=True)  # of older sources

    def add_bf16_units(self, ext: Extension) -> None:
        ext.source_flags = {}
        for source, unit in getattr(ext, "bf16_units", {}).items():
            if not self.compiles(unit.instruction, unit.flags):
                needed = " ".join(unit.flags)
                print(f"warning: {source} is left out: no compiler or assembler for {needed}", file=sys.stderr)
                continue
            path = f"csrc/cpu/{source}"
            ext.sources.append(path)
            ext.extra_compile_args.append(f"-D{unit.tells}={unit.namespace}")
            ext.source_flags[path] = ["-UFASTRNN_ISA", f"-DFASTRNN_ISA={unit.namespace}", *unit.defines, *unit.flags]

    def compiles(self, instruction: str, flags: list[str]) -> bool:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "one.cpp"
            source.write_text(f'void one() {{ asm volatile("{instruction}"); }}\n')
            try:
                self.compiler.compile([str(source)], output_dir=folder, extra_postargs=flags)
            except CompileError:
                return False
        return True

    def link(self, ext: Extension, objects: list[str]) -> None:
        self.compiler.link_shared_object(
            objects,
            self.get_ext_fullpath(ext.name),
            libraries=self.get_libraries(ext),
            extra_postargs=ext.extra_link_args,
            build_temp=self.build_temp,
            target_lang="c++",
        )

    def compile_object(self, ext: Extension, source: str) -> str:
        # the same source serves several ISAs and flag sets: each gets a folder of its own
        flags = [*ext.extra_compile_args, *ext.include_dirs, *getattr(ext, "nvcc", [])]
        folder = os.path.join(self.build_temp, f"{ext.name}-{hashlib.sha1(' '.join(flags).encode()).hexdigest()[:8]}")
        if source.endswith(".cu"):
            target = os.path.join(folder, Path(source).with_suffix(".o").name)
        else:
            (target,) = self.compiler.object_filenames([source], output_dir=folder)
        inputs = [source, *ext.depends, __file__]
        if os.path.exists(target) and os.path.getmtime(target) > max(map(os.path.getmtime, inputs)):
            return target
        if source.endswith(".cu"):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            command = [*ext.nvcc, "-c", source, "-o", target]
            done = subprocess.run(command, capture_output=True, text=True)
            # registers and shared memory of each kernel; not beside the object, since pip soon removes that folder
            reports = ROOT / "build/ptxas"
            reports.mkdir(parents=True, exist_ok=True)
            (reports / f"{Path(source).stem}.ptxas").write_text(done.stderr)
            said = [line for line in done.stderr.splitlines() if "warning" in line]
            if done.returncode and cuda_choice() == "1":
                said = [" ".join(command), done.stderr]
            print(*said, sep="\n", end="\n" * bool(said), file=sys.stderr)
            if done.returncode:
                raise CudaError(f"{command[0]} failed on {source}: {first_line(done.stderr)}")
            return target
        self.compiler.compile(
            [source],
            output_dir=folder,
            include_dirs=ext.include_dirs,
            extra_postargs=[*ext.extra_compile_args, *ext.source_flags.get(source, [])],
            depends=ext.depends,
        )
        return target


def kernels(isa: str) -> Extension:
    sources = ["layer_f32.cpp", "layer_f64.cpp", "module.cpp"]
    ext = extension(f"_kernels_{isa}", sources, [f"-DFASTRNN_ISA={isa}", *ISAS[isa]])
    ext.bf16_units = BF16_UNITS.get(isa, {})
    return ext


setup(
    ext_modules=[extension("_cpu", ["detect.cpp"], []), *map(kernels, wanted_isas()), *cuda_extensions()],
    cmdclass={"build_ext": BuildKernels},
)
