// The `consilium` command as the program runs it, over mTLS to a coordinator
// that runs, or on the store of one that has stopped.

#ifndef CONSILIUM_TESTS_INTEGRATION_OPERATOR_CLI_H_
#define CONSILIUM_TESTS_INTEGRATION_OPERATOR_CLI_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "consilium/base/mutex.h"
#include "coordinator/cli/cli.h"
#include "google/protobuf/descriptor.h"
#include "nlohmann/json.hpp"
#include "tests/integration/harness.h"

namespace consilium {

// What a command has written so far. Thread-safe.
class WatchedOutput : public std::streambuf {
 public:
  // Until `text` has come, at most a minute; false: it has not.
  bool WaitFor(const std::string& text);
  std::string text();

 protected:
  int_type overflow(int_type c) override;
  std::streamsize xsputn(const char* data, std::streamsize size) override;

 private:
  Mutex mu_;
  CondVar changed_;
  std::string text_ ABSL_GUARDED_BY(mu_);
};

class OperatorCli {
 public:
  explicit OperatorCli(TestFederation& federation);

  // The exit code. The coordinator's address is given to every verb.
  int Run(std::vector<std::string> args);
  int RunOffline(std::vector<std::string> args);
  // As it would be on somebody else's machine.
  int RunAs(const std::string& config, std::vector<std::string> args);
  // Writes to `to` instead.
  int RunInto(std::ostream& to, std::vector<std::string> args);

  const std::string& out() const { return out_; }
  const std::string& err() const { return err_; }
  nlohmann::json Json() const;

  // With --json; expects exit code 0 and a document with every field of the
  // message, in its documented form.
  template <typename Message>
  nlohmann::json Document(std::vector<std::string> args) {
    return Checked(std::move(args), Message::descriptor(), /*offline=*/false);
  }
  template <typename Message>
  nlohmann::json OfflineDocument(std::vector<std::string> args) {
    return Checked(std::move(args), Message::descriptor(), /*offline=*/true);
  }
  // As a table; expects exit code 0 and returns it.
  std::string Table(std::vector<std::string> args);

  // The operator/config.toml of an identity in `folder` (enrolled there).
  std::string ConfigFor(const std::string& folder);
  std::string directory() const;  // of `consilium init`

 private:
  nlohmann::json Checked(std::vector<std::string> args,
                         const google::protobuf::Descriptor* type,
                         bool offline);
  int Run(std::ostream& out, const std::vector<std::string>& args);

  TestFederation& federation_;
  std::string out_;
  std::string err_;
};

// Every field of `type` is there, in the form that the command documents.
void ExpectFields(const nlohmann::json& json,
                  const google::protobuf::Descriptor* type);

}  // namespace consilium

#endif  // CONSILIUM_TESTS_INTEGRATION_OPERATOR_CLI_H_
