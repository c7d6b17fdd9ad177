// A count of failed checks is all these tests need.
#pragma once
#include <cstdio>

inline int failures = 0;

#define CHECK(condition, ...)                                       \
  do {                                                              \
    if (!(condition)) {                                             \
      if (++failures <= 20) {                                       \
        std::printf("%s:%d: %s: ", __FILE__, __LINE__, #condition); \
        std::printf(__VA_ARGS__);                                   \
        std::printf("\n");                                          \
      }                                                             \
    }                                                               \
  } while (0)

inline int report(const char* name) {
  std::printf("%s: %s (%d failed)\n", name, failures ? "FAILED" : "passed", failures);
  return failures ? 1 : 0;
}
