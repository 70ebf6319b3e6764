#include "tests/integration/operator_cli.h"

#include <utility>

#include "consilium/base/bytes.h"
#include "consilium/base/retry.h"
#include "consilium/base/strings.h"
#include "consilium/secure/random.h"
#include "tests/support/status_matchers.h"

namespace consilium {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using nlohmann::json;

bool WatchedOutput::WaitFor(const std::string& text) {
  const absl::Time until = absl::Now() + absl::Minutes(1);
  MutexLock lock(&mu_);
  while (text_.find(text) == std::string::npos) {
    const absl::Duration left = until - absl::Now();
    if (left <= absl::ZeroDuration()) return false;
    changed_.WaitFor(&mu_, left);
  }
  return true;
}

std::string WatchedOutput::text() {
  MutexLock lock(&mu_);
  return text_;
}

WatchedOutput::int_type WatchedOutput::overflow(int_type c) {
  if (c == traits_type::eof()) return c;
  const char one = static_cast<char>(c);
  xsputn(&one, 1);
  return c;
}

std::streamsize WatchedOutput::xsputn(const char* data, std::streamsize size) {
  MutexLock lock(&mu_);
  text_.append(data, static_cast<size_t>(size));
  changed_.SignalAll();
  return size;
}

OperatorCli::OperatorCli(TestFederation& federation)
    : federation_(federation) {}

std::string OperatorCli::directory() const {
  return JoinPath(federation_.dir(), "coordinator");
}

int OperatorCli::Run(std::ostream& out, const std::vector<std::string>& args) {
  std::ostringstream err;
  CliEnvironment environment;
  environment.out = &out;
  environment.err = &err;
  environment.fs = PosixFileSystem();
  environment.clock = SystemClock();
  environment.sleeper = SystemSleeper();
  environment.random = SystemRandom();
  environment.variables = [](const std::string&) -> std::optional<std::string> {
    return std::nullopt;
  };
  environment.connect = ConnectAdmin;
  const int code = RunCli(args, environment);
  err_ = err.str();
  return code;
}

int OperatorCli::RunInto(std::ostream& to, std::vector<std::string> args) {
  args.insert(args.end(),
              {"--config", JoinPath(directory(), "operator/config.toml"),
               "--coordinator", federation_.address()});
  return Run(to, args);
}

int OperatorCli::Run(std::vector<std::string> args) {
  std::ostringstream out;
  const int code = RunInto(out, std::move(args));
  out_ = out.str();
  return code;
}

int OperatorCli::RunAs(const std::string& config,
                       std::vector<std::string> args) {
  args.insert(args.end(), {"--config", config});
  std::ostringstream out;
  const int code = Run(out, args);
  out_ = out.str();
  return code;
}

int OperatorCli::RunOffline(std::vector<std::string> args) {
  args.insert(args.begin(), {"--offline", directory()});
  std::ostringstream out;
  const int code = Run(out, args);
  out_ = out.str();
  return code;
}

json OperatorCli::Json() const {
  json parsed = json::parse(out_, nullptr, /*allow_exceptions=*/false);
  EXPECT_FALSE(parsed.is_discarded()) << out_;
  return parsed;
}

json OperatorCli::Checked(std::vector<std::string> args, const Descriptor* type,
                          bool offline) {
  std::string shown;
  for (const std::string& arg : args) CatInto(shown, arg, " ");
  SCOPED_TRACE(shown);
  args.push_back("--json");
  EXPECT_EQ(offline ? RunOffline(std::move(args)) : Run(std::move(args)), 0)
      << err_;
  EXPECT_EQ(err_, "");
  const json document = Json();
  ExpectFields(document, type);
  return document;
}

std::string OperatorCli::Table(std::vector<std::string> args) {
  std::string shown;
  for (const std::string& arg : args) CatInto(shown, arg, " ");
  EXPECT_EQ(Run(std::move(args)), 0) << shown << ": " << err_;
  EXPECT_NE(out_, "") << shown;
  return out_;
}

std::string OperatorCli::ConfigFor(const std::string& folder) {
  const std::string path = JoinPath(folder, "operator.toml");
  EXPECT_OK(WriteFileAtomic(
      PosixFileSystem(), path,
      AsBytes(Cat("coordinator = \"", federation_.address(), "\"\n",
                  "certificate = \"client.pem\"\nkey = \"client.key\"\n",
                  "ca = \"root-ca.pem\"\n")),
      0600));
  return path;
}

void ExpectFields(const json& value, const Descriptor* type) {
  ASSERT_TRUE(value.is_object()) << value.dump();
  EXPECT_EQ(value.size(), static_cast<size_t>(type->field_count()))
      << value.dump();
  for (int i = 0; i < type->field_count(); ++i) {
    const FieldDescriptor* const field = type->field(i);
    ASSERT_TRUE(value.contains(field->name()))
        << type->name() << "." << field->name();
    const json& got = value[field->name()];
    SCOPED_TRACE(Cat(type->name(), ".", field->name(), " = ", got.dump()));
    if (field->is_map()) {
      EXPECT_TRUE(got.is_object());
    } else if (field->is_repeated()) {
      ASSERT_TRUE(got.is_array());
      for (const json& item : got) {
        if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
          ExpectFields(item, field->message_type());
        } else {
          EXPECT_TRUE(item.is_string());
        }
      }
    } else {
      switch (field->cpp_type()) {
        case FieldDescriptor::CPPTYPE_MESSAGE:
          if (!got.is_null()) ExpectFields(got, field->message_type());
          break;
        case FieldDescriptor::CPPTYPE_STRING:
          EXPECT_TRUE(got.is_string());
          break;
        case FieldDescriptor::CPPTYPE_BOOL:
          EXPECT_TRUE(got.is_boolean());
          break;
        case FieldDescriptor::CPPTYPE_INT64: {  // a time
          if (got.is_null()) break;
          ASSERT_TRUE(got.is_string());
          absl::Time time;
          std::string error;
          EXPECT_TRUE(absl::ParseTime(absl::RFC3339_full,
                                      got.get<std::string>(), &time, &error))
              << error;
          break;
        }
        default:
          EXPECT_TRUE(got.is_number() || got.is_null());
      }
    }
  }
}

}  // namespace consilium
