// What the library tells callers in other languages about itself, so that they need no copy of it.
#pragma once

#include <stdint.h>

#include <string>
#include <type_traits>

// A line of gaussianmri_describe.
struct GmExport {
  GmExport(const char* name, const std::string& value);
};

template <typename T>
constexpr char gm_letter() {
  static_assert(std::is_pointer<T>::value || std::is_same<T, float>::value ||
                    (std::is_integral<T>::value && (sizeof(T) == 4 || sizeof(T) == 8)),
                "a parameter of the C interface is a pointer, a float, or an integer of 32 or 64 bits");
  return std::is_pointer<T>::value ? 'p' : std::is_same<T, float>::value ? 'f' : sizeof(T) == 8 ? 'q' : 'i';
}

template <typename... Parameters>
std::string gm_letters(int (*)(Parameters...)) {
  return {gm_letter<Parameters>()...};
}

#define GM_EXPORT_FUNCTION(name) static const GmExport exported_##name(#name, gm_letters(name))
#define GM_EXPORT_SIZE(type) static const GmExport exported_##type(#type, std::to_string(sizeof(type)))
#define GM_EXPORT_NUMBER(name) static const GmExport exported_##name(#name, std::to_string(static_cast<int64_t>(name)))
