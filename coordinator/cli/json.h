// JSON of the command line.
//
// A message becomes an object with the field names of admin.proto, every field
// present: times (the int64 fields) as RFC 3339 in UTC with microseconds,
// bytes as hexadecimal, sizes and counts as numbers; null for a time that is
// not set, a message that is not set and a number that is not known.

#ifndef CONSILIUM_COORDINATOR_CLI_JSON_H_
#define CONSILIUM_COORDINATOR_CLI_JSON_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "google/protobuf/message.h"

namespace consilium {

// On one line.
std::string MessageToJson(const google::protobuf::Message& message);

// One JSON object, its keys in the order of the calls. A value type.
class JsonObject {
 public:
  JsonObject& Text(std::string_view key, std::string_view value);
  JsonObject& Texts(std::string_view key,
                    const std::vector<std::string>& values);
  JsonObject& Number(std::string_view key, uint64_t value);
  JsonObject& Bool(std::string_view key, bool value);
  // `value` is JSON.
  JsonObject& Raw(std::string_view key, std::string_view value);
  std::string ToString() const;

 private:
  std::string body_;
};

// The same document, indented.
std::string IndentJson(std::string_view json);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_CLI_JSON_H_
