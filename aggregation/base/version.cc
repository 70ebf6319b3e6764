#include "consilium/base/version.h"

namespace consilium {

const char* SoftwareVersion() { return CONSILIUM_VERSION; }

}  // namespace consilium
