#include "support/api.h"

#include "support/dispatch.h"
#include "support/exports.h"
#include "support/math.h"

namespace {

std::string& description() {
  static std::string text;
  return text;
}

GM_EXPORT_NUMBER(kTile);

}  // namespace

GmExport::GmExport(const char* name, const std::string& value) { description() += name + (' ' + value) + '\n'; }

int gaussianmri_abi(void) { return GAUSSIANMRI_ABI; }

const char* gaussianmri_describe(void) { return description().c_str(); }

const char* gaussianmri_simd(void) { return gm_instruction_set_name(); }

int gaussianmri_set_simd(const char* name) {
  return name && gm_select_instruction_set(name) ? GAUSSIANMRI_OK : GAUSSIANMRI_INVALID;
}
