// What a killed process made is here for the next one, but may not be durable.
#ifndef CONSILIUM_BASE_SYNC_NAME_H_
#define CONSILIUM_BASE_SYNC_NAME_H_

#include <string>

#include "consilium/base/file.h"

namespace consilium {

// On OK the name of a file or folder that is there survives a loss of power,
// whoever made it. OK also where the folder above is not ours to read.
absl::Status SyncName(FileSystem* fs, const std::string& path);

}  // namespace consilium

#endif  // CONSILIUM_BASE_SYNC_NAME_H_
