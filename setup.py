"""Builds the kernels: one extension module an ISA and, where nvcc is found, one for CUDA, every object in parallel.
No torch and no GPU is needed to build.

Environment variables:
  FASTRNN_ISAS       comma-separated subset of the ISAs to build (default: all that the target knows)
  FASTRNN_SANITIZE   1: AddressSanitizer and UndefinedBehaviorSanitizer
  FASTRNN_CUDA       auto: CUDA kernels where nvcc is found (default); 1: an error without nvcc; 0: none
  FASTRNN_CUDA_ARCHS comma-separated, for instance 80,90a: machine code for each, and PTX of the last plain one for
                     later GPUs (default: 80,90a; "all": every one that nvcc knows of 80 86 89 90a 100 120)
  NVCC, CUDA_HOME    the compiler, or the toolkit's folder (default: nvcc in the PATH, then /usr/local/cuda)
  MAX_JOBS           compiler processes at once (default: the number of cores)
"""

import hashlib
import os
import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pybind11
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
SANITIZE = os.environ.get("FASTRNN_SANITIZE", "0") == "1"

# name -> compiler flags, for the machine that is compiled for
ISAS = {"baseline": []}
if sysconfig.get_platform().endswith(("x86_64", "amd64")):
    ISAS["avx2"] = ["-mavx2", "-mfma"]
    ISAS["avx512"] = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"]

# ISA -> flags, and the namespace, of layer_bf16.cpp: dot products of bf16 that only some of its processors have
BF16_DOTS = {"avx512": ("avx512bf16", ["-mavx512bf16"])}

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
OPTIMISE = OPTIMISE if SANITIZE else ["-O3"]
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
            str(p.relative_to(ROOT)) for pattern in ("*.h", "*.inl") for p in (ROOT / "csrc").rglob(pattern)
        ),
        include_dirs=[pybind11.get_include()],
        extra_compile_args=COMMON + OPTIMISE + flags,
        extra_link_args=LINK,
        libraries=["dl"],
        language="c++",
    )


# ---- CUDA ----------------------------------------------------------------------------------------------------------
CUDA_SOURCES = [f"layer_{name}.cu" for name in ("bf16", "f16", "tf32", "f32", "f64")]
ALL_ARCHS = ["80", "86", "89", "90a", "100", "120"]
# sm_80 code runs on 8.x, sm_90a code on 9.0; later GPUs compile the PTX at first use
DEFAULT_ARCHS = ["80", "90a"]


def find_nvcc() -> str | None:
    folders = [f"{os.environ[name]}/bin" for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    path = os.pathsep.join([*folders, os.environ.get("PATH", ""), "/usr/local/cuda/bin"])
    return os.environ.get("NVCC") or shutil.which("nvcc", path=path)


def wanted_nvcc() -> str | None:
    """The CUDA compiler, or None: no CUDA kernels."""
    choice = os.environ.get("FASTRNN_CUDA", "auto")
    if choice not in ("0", "1", "auto"):
        raise SystemExit(f"FASTRNN_CUDA={choice}: choose 0, 1 or auto")
    nvcc = None if choice == "0" or SANITIZE else find_nvcc()
    if choice == "1" and not nvcc:
        raise SystemExit("FASTRNN_CUDA=1, but nvcc was not found: install the CUDA toolkit, or set NVCC or CUDA_HOME")
    return nvcc


def cuda_archs(nvcc: str) -> list[str]:
    asked = [a for a in os.environ.get("FASTRNN_CUDA_ARCHS", "").split(",") if a]
    if asked != ["all"]:
        return asked or DEFAULT_ARCHS
    known = subprocess.run([nvcc, "--list-gpu-code"], capture_output=True, text=True, check=True).stdout.split()
    return [a for a in ALL_ARCHS if f"sm_{a.rstrip('a')}" in known]


def cuda_extension(nvcc: str) -> Extension:
    archs = cuda_archs(nvcc)
    plain = max((a.rstrip("a") for a in archs), key=int)
    targets = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in archs]
    targets.append(f"-gencode=arch=compute_{plain},code=compute_{plain}")
    toolkit = Path(nvcc).resolve().parent.parent
    if not (toolkit / "include/cuda_runtime.h").exists():  # nvcc is a script that calls the real one
        out = subprocess.run([nvcc, "--dryrun", "x.cu"], capture_output=True, text=True, cwd=ROOT).stderr
        top = next(line.split("=", 1)[1] for line in out.splitlines() if line.startswith("#$ TOP="))
        toolkit = Path(top).resolve()
    libraries = [str(toolkit / folder) for folder in ("lib64", "lib", "targets/x86_64-linux/lib")]
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
        jobs = int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)
        tasks = [(ext, source) for ext in self.extensions for source in ext.sources]
        with ThreadPoolExecutor(jobs) as pool:
            objects = list(pool.map(lambda task: self.compile_object(*task), tasks))
        for ext in self.extensions:
            mine = [o for (e, _), o in zip(tasks, objects, strict=True) if e is ext]
            self.compiler.link_shared_object(
                mine,
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
            Path(target).with_suffix(".ptxas").write_text(done.stderr)  # registers and shared memory of each kernel
            if done.returncode:
                raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
            return target
        self.compiler.compile(
            [source],
            output_dir=folder,
            include_dirs=ext.include_dirs,
            extra_postargs=[*ext.extra_compile_args, *getattr(ext, "source_flags", {}).get(Path(source).name, [])],
            depends=ext.depends,
        )
        return target


def kernels(isa: str) -> Extension:
    sources = ["layer_f32.cpp", "layer_f64.cpp", "module.cpp"]
    flags = [f"-DFASTRNN_ISA={isa}", *ISAS[isa]]
    if isa not in BF16_DOTS:
        return extension(f"_kernels_{isa}", sources, flags)
    namespace, more = BF16_DOTS[isa]
    ext = extension(f"_kernels_{isa}", [*sources, "layer_bf16.cpp"], [*flags, f"-DFASTRNN_WITH_BF16={namespace}"])
    ext.source_flags = {"layer_bf16.cpp": ["-UFASTRNN_ISA", f"-DFASTRNN_ISA={namespace}", "-DFASTRNN_PAIRS", *more]}
    return ext


nvcc = wanted_nvcc()
setup(
    ext_modules=[
        extension("_cpu", ["detect.cpp"], []),
        *map(kernels, wanted_isas()),
        *([cuda_extension(nvcc)] if nvcc else []),
    ],
    cmdclass={"build_ext": BuildKernels},
)
