// What the layout of a call depends on besides its shape: facts of this processor, read once.
#pragma once
#include <cstdint>
#if defined(__linux__)
#include <unistd.h>
#endif
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "simd.h"

namespace fastrnn {
inline namespace FASTRNN_ISA {

struct Machine {
  // Whether the third-level cache is near: shared by a few cores at their own speed, so that it gives each some tens of
  // bytes a nanosecond. AMD's; measured there, and on an Intel server processor, whose mesh gives a core less than
  // half of that. Others are taken to be like the latter.
  bool near_l3 = false;
  // Whether a dot product of bf16 pairs takes no longer than one fp32 multiply-add (AMD). On Intel's processors it
  // takes four times as long, twice as long as the two that it replaces.
  bool fast_dots = false;
  // Whether a vector's division takes no longer than an approximate one with a correction (AMD's
  // with AVX-512; by AVX2 cells always divide). A cell takes a sixth less time by it on Zen 5, a layer up to a hundredth
  // less on Zen 4; on Intel's processors it was not tried.
  bool fast_division = false;
  // Whether a product of one row, which is as fast as its weights come, asks for them ahead: on Zen 5 four gates' panels
  // then come at four fifths of what the second-level cache gives, in place of three, and others from the third a tenth to
  // a quarter faster. Zen 4 is slower so; on Intel's processors it was not measured.
  bool asks_ahead = false;
  // Bytes of a panel that a tile's inner loop passes through before its sums go to memory. Where 32 KiB and the rows
  // fit the first-level cache together, the next tile finds them there; where not, longer loops save more than shorter
  // ones.
  int64_t slice_bytes = 64 << 10;
  // Panels that are so many bytes together are asked for while the ones before are in work; forward's, which hold all
  // gates, from a size of their own on. The second-level cache's size: to ask for what is there already makes a product
  // 5 % slower. Zen 5 fetches forward's soon enough by itself up to the second size. Measured on Intel's processors, Zen 4
  // and Zen 5, and taken for good on others.
  int64_t far_bytes = 2 << 20, far_gate_bytes = 0;
  bool short_slices = true;        // of far panels that few rows use (tile.h)
  int64_t second_level = 1 << 20;  // bytes of a core's second-level cache
  // Whether one matrix of this size does not stay there beside another one.
  bool past_second_level(int64_t bytes) const { return 2 * bytes >= second_level; }
  bool far_beyond_second_level(int64_t bytes) const { return bytes > 4 * second_level; }
  bool far(int64_t bytes) const { return bytes >= far_bytes; }
  bool far_gates(int64_t bytes) const { return bytes >= far_gate_bytes; }

  Machine() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    near_l3 = fast_dots = fast_division = __builtin_cpu_is("amd");
    unsigned version = 0, b, c, d;
    __get_cpuid(1, &version, &b, &c, &d);
    asks_ahead = near_l3 && (version >> 8 & 15) + (version >> 20 & 255) >= 26;
#endif
#if defined(_SC_LEVEL1_DCACHE_SIZE)
    if (sysconf(_SC_LEVEL1_DCACHE_SIZE) >= (48 << 10)) slice_bytes = 32 << 10;
    if (sysconf(_SC_LEVEL2_CACHE_SIZE) > 0) far_bytes = second_level = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
    far_gate_bytes = asks_ahead ? 8 << 20 : far_bytes;
    short_slices = !near_l3;
#if defined(FASTRNN_FAR_BYTES)  // tests: small layers' panels are far, too, and one row's asked for; or 0: nothing is
    asks_ahead = fast_division = short_slices = FASTRNN_FAR_BYTES > 0;
    far_bytes = far_gate_bytes = FASTRNN_FAR_BYTES > 0 ? FASTRNN_FAR_BYTES : INT64_MAX;
    if (FASTRNN_FAR_BYTES > 0) second_level = FASTRNN_FAR_BYTES;
#endif
  }
};

inline const Machine& machine() {
  static const Machine m;
  return m;
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
