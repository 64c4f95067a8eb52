// The inner loops are compiled once for each instruction set, in a namespace of its name, and called through tables of
// functions; each folder's kernels.h has its table.
#pragma once

// The instruction set in use, an index into the list below: the best that this processor has, or the one asked for.
int gm_instruction_set();
const char* gm_instruction_set_name();
bool gm_select_instruction_set(const char* name);

// Those that are built for a kind of processor, the best first.
#if defined(GM_HAVE_X86)
#define GM_EACH_INSTRUCTION_SET(DO, type, name) \
  DO(avx512, type, name) DO(avx2, type, name) DO(sse2, type, name) DO(scalar, type, name)
#elif defined(GM_HAVE_NEON)
#define GM_EACH_INSTRUCTION_SET(DO, type, name) DO(neon, type, name) DO(scalar, type, name)
#else
#define GM_EACH_INSTRUCTION_SET(DO, type, name) DO(scalar, type, name)
#endif

// Declares the table `name` of every instruction set, and gm_<name>(), the one in use.
#define GM_DECLARE_TABLE(isa, type, name) \
  namespace isa {                         \
  extern const type name;                 \
  }
#define GM_TABLE_ADDRESS(isa, type, name) &isa::name,
#define GM_TABLE(type, name)                                                                     \
  GM_EACH_INSTRUCTION_SET(GM_DECLARE_TABLE, type, name)                                          \
  static inline const type& gm_##name() {                                                        \
    static const type* const tables[] = {GM_EACH_INSTRUCTION_SET(GM_TABLE_ADDRESS, type, name)}; \
    return *tables[gm_instruction_set()];                                                        \
  }
