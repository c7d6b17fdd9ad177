"""Builds the kernels: one extension module an ISA, every object in parallel. No torch is needed to build.

Environment variables:
  FASTRNN_ISAS       comma-separated subset of the ISAs to build (default: all that the target knows)
  FASTRNN_SANITIZE   1: AddressSanitizer and UndefinedBehaviorSanitizer
  MAX_JOBS           compiler processes at once (default: the number of cores)
"""

import hashlib
import os
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
        key = hashlib.sha1(" ".join([*ext.extra_compile_args, *ext.include_dirs]).encode()).hexdigest()[:8]
        folder = os.path.join(self.build_temp, f"{ext.name}-{key}")
        (target,) = self.compiler.object_filenames([source], output_dir=folder)
        inputs = [source, *ext.depends, __file__]
        if os.path.exists(target) and os.path.getmtime(target) > max(map(os.path.getmtime, inputs)):
            return target
        self.compiler.compile(
            [source],
            output_dir=folder,
            include_dirs=ext.include_dirs,
            extra_postargs=ext.extra_compile_args,
            depends=ext.depends,
        )
        return target


def kernels(isa: str) -> Extension:
    sources = ["layer_f32.cpp", "layer_f64.cpp", "module.cpp"]
    return extension(f"_kernels_{isa}", sources, [f"-DFASTRNN_ISA={isa}", *ISAS[isa]])


setup(
    ext_modules=[extension("_cpu", ["detect.cpp"], []), *map(kernels, wanted_isas())],
    cmdclass={"build_ext": BuildKernels},
)
