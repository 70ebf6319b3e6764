#include "coordinator/cli/json.h"

#include <cmath>

#include "absl/time/time.h"
#include "consilium/base/bytes.h"
#include "consilium/base/strings.h"
#include "google/protobuf/descriptor.h"
#include "nlohmann/json.hpp"

namespace consilium {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using Json = nlohmann::ordered_json;

constexpr std::string_view kUnknownBelowZero =
    "consilium.v1.MemberInfo.progress";

Json Text(const std::string& text) { return text; }

Json Number(double value) {
  return std::isfinite(value) ? Json(value) : Json(nullptr);
}

// Every int64 of the protocol is a time in microseconds since 1970.
Json Time(int64_t micros) {
  if (micros == 0) return nullptr;
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E6SZ", absl::FromUnixMicros(micros),
                          absl::UTCTimeZone());
}

Json ToJson(const Message& message);

Json Single(const Message& message, const FieldDescriptor* field) {
  const Reflection& r = *message.GetReflection();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      return r.GetBool(message, field);
    case FieldDescriptor::CPPTYPE_UINT32:
      return r.GetUInt32(message, field);
    case FieldDescriptor::CPPTYPE_UINT64:
      return r.GetUInt64(message, field);
    case FieldDescriptor::CPPTYPE_INT64:
      return Time(r.GetInt64(message, field));
    case FieldDescriptor::CPPTYPE_DOUBLE: {
      const double value = r.GetDouble(message, field);
      if (value < 0 && field->full_name() == kUnknownBelowZero) return nullptr;
      return Number(value);
    }
    case FieldDescriptor::CPPTYPE_STRING: {
      const std::string value = r.GetString(message, field);
      return field->type() == FieldDescriptor::TYPE_BYTES
                 ? Text(HexEncode(AsBytes(value)))
                 : Text(value);
    }
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return r.HasField(message, field) ? ToJson(r.GetMessage(message, field))
                                        : Json(nullptr);
    default:
      return nullptr;  // the admin answers have no other types
  }
}

Json Repeated(const Message& message, const FieldDescriptor* field) {
  const Reflection& r = *message.GetReflection();
  const int count = r.FieldSize(message, field);
  if (field->is_map()) {
    // Sorted by key: the order inside a message is not stable.
    nlohmann::json sorted = nlohmann::json::object();
    for (int i = 0; i < count; ++i) {
      const Message& entry = r.GetRepeatedMessage(message, field, i);
      const auto* type = entry.GetDescriptor();
      const Reflection& e = *entry.GetReflection();
      sorted[e.GetString(entry, type->map_key())] =
          e.GetString(entry, type->map_value());
    }
    return sorted;
  }
  Json out = Json::array();
  for (int i = 0; i < count; ++i) {
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      out.push_back(ToJson(r.GetRepeatedMessage(message, field, i)));
    } else {
      out.push_back(Text(r.GetRepeatedString(message, field, i)));
    }
  }
  return out;
}

Json ToJson(const Message& message) {
  Json out = Json::object();
  const auto* type = message.GetDescriptor();
  for (int i = 0; i < type->field_count(); ++i) {
    const FieldDescriptor* field = type->field(i);
    out[field->name()] = field->is_repeated() ? Repeated(message, field)
                                              : Single(message, field);
  }
  return out;
}

std::string Dump(const Json& json, int indent = -1) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

std::string MessageToJson(const Message& message) {
  return Dump(ToJson(message));
}

JsonObject& JsonObject::Raw(std::string_view key, std::string_view value) {
  CatInto(body_, body_.empty() ? "" : ",", Dump(std::string(key)), ":", value);
  return *this;
}
JsonObject& JsonObject::Text(std::string_view key, std::string_view value) {
  return Raw(key, Dump(std::string(value)));
}
JsonObject& JsonObject::Texts(std::string_view key,
                              const std::vector<std::string>& values) {
  return Raw(key, Dump(values));
}
JsonObject& JsonObject::Number(std::string_view key, uint64_t value) {
  return Raw(key, Dump(value));
}
JsonObject& JsonObject::Bool(std::string_view key, bool value) {
  return Raw(key, value ? "true" : "false");
}
std::string JsonObject::ToString() const { return Cat("{", body_, "}"); }

std::string IndentJson(std::string_view json) {
  return Dump(Json::parse(json, nullptr, false), 2);
}

}  // namespace consilium
