// What every function of the C interface does: arguments are checked, and no exception leaves.
#pragma once

#include <cstdio>
#include <exception>
#include <new>
#include <string>

#include "support/api.h"

struct Invalid {
  std::string message;
};

inline void require(bool condition, const char* message) {
  if (!condition) throw Invalid{message};
}

template <typename Body>
int guarded(char* message, int64_t message_size, Body&& body) {
  const auto report = [&](int code, const char* text) {
    if (message && message_size > 0) std::snprintf(message, static_cast<size_t>(message_size), "%s", text);
    return code;
  };
  try {
    body();
    return report(GAUSSIANMRI_OK, "");
  } catch (const Invalid& error) {
    return report(GAUSSIANMRI_INVALID, error.message.c_str());
  } catch (const std::bad_alloc&) {
    return report(GAUSSIANMRI_NO_MEMORY, "not enough memory; render fewer or smaller images in one call");
  } catch (const std::exception& error) {
    return report(GAUSSIANMRI_FAILED, error.what());
  }
}
