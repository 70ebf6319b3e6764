// The version of this build.
#ifndef CONSILIUM_BASE_VERSION_H_
#define CONSILIUM_BASE_VERSION_H_

namespace consilium {

// "MAJOR.MINOR.PATCH", as the build's project() says.
const char* SoftwareVersion();

}  // namespace consilium

#endif  // CONSILIUM_BASE_VERSION_H_
