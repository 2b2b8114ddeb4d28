// What the native tests say their expectations with: a failed one prints itself and fails the run.
#pragma once

#include <cstdio>

namespace predawn::testing {

inline int failures = 0;

inline void expect(bool holds, const char* text, const char* file, int line) {
  if (holds) return;
  std::fprintf(stderr, "%s:%d: expected %s\n", file, line, text);
  ++failures;
}

}  // namespace predawn::testing

#define EXPECT(...) predawn::testing::expect((__VA_ARGS__), #__VA_ARGS__, __FILE__, __LINE__)
