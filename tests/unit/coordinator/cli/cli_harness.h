// The command line over a fake coordinator and string streams.
#ifndef CONSILIUM_TESTS_UNIT_COORDINATOR_CLI_CLI_HARNESS_H_
#define CONSILIUM_TESTS_UNIT_COORDINATOR_CLI_CLI_HARNESS_H_

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "consilium/base/strings.h"
#include "coordinator/cli/cli.h"
#include "nlohmann/json.hpp"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_sleeper.h"
#include "tests/support/seeded_random.h"
#include "tests/support/status_matchers.h"

namespace consilium {

inline constexpr absl::Time kCliNow = absl::FromUnixSeconds(1767225600);

inline int64_t MicrosAgo(absl::Duration ago) {
  return absl::ToUnixMicros(kCliNow - ago);
}

// Answers each method with what the test set for it, and remembers what was
// asked. Shared with the session, which owns its AdminApi.
struct FakeCoordinator {
  std::map<std::string, std::shared_ptr<google::protobuf::Message>> answers;
  std::map<std::string, absl::Status> errors;
  // "SetFederation reason: \"x\"", in order.
  std::vector<std::string> calls;
  std::vector<v1::RoundInfo> snapshots;  // of WatchRound
  absl::Status watch_end;                // after the snapshots
  // Streams before that one: their snapshots and ends.
  std::deque<std::pair<std::vector<v1::RoundInfo>, absl::Status>> cut_watches;
  std::string blob;                            // of DownloadVersion
  size_t cut_after = std::string::npos;        // bytes of the first download
  std::vector<uint64_t> offsets;               // asked of DownloadVersion
  std::vector<v1::ImportVersionChunk> chunks;  // of ImportVersion

  template <typename Message>
  Message& Answer(const std::string& method) {
    auto message = std::make_shared<Message>();
    answers[method] = message;
    return *message;
  }
};

class FakeAdmin final : public AdminApi {
 public:
  explicit FakeAdmin(FakeCoordinator* fake) : fake_(*fake) {}

#define CONSILIUM_FAKE_CALL(Method, Request, Response, is_long)           \
  absl::Status Method(const v1::Request& request, v1::Response* response) \
      override {                                                          \
    return Run(#Method, request, response);                               \
  }
  CONSILIUM_ADMIN_CALLS(CONSILIUM_FAKE_CALL)
#undef CONSILIUM_FAKE_CALL

  absl::Status WatchRound(
      const v1::WatchRoundRequest& request,
      absl::FunctionRef<bool(const v1::RoundInfo&)> on_change) override {
    if (!fake_.cut_watches.empty()) {
      const auto [snapshots, end] = fake_.cut_watches.front();
      fake_.cut_watches.pop_front();
      for (const v1::RoundInfo& info : snapshots) {
        if (!on_change(info)) return absl::OkStatus();
      }
      return end;
    }
    for (const v1::RoundInfo& info : fake_.snapshots) {
      if (request.round() != 0 && info.round() != request.round()) continue;
      if (!on_change(info)) return absl::OkStatus();
    }
    return fake_.watch_end;
  }
  absl::Status DownloadVersion(
      const v1::DownloadRequest& request,
      absl::FunctionRef<absl::Status(const v1::DownloadChunk&)> on_chunk)
      override {
    fake_.offsets.push_back(request.offset());
    const size_t end = std::min(
        fake_.blob.size(), std::exchange(fake_.cut_after, std::string::npos));
    for (size_t at = request.offset(); at < end;) {
      const size_t size = std::min<size_t>(1000, end - at);
      v1::DownloadChunk chunk;
      chunk.set_offset(at);
      chunk.set_data(fake_.blob.substr(at, size));
      CONSILIUM_RETURN_IF_ERROR(on_chunk(chunk));
      at += size;
    }
    return end == fake_.blob.size() ? absl::OkStatus()
                                    : absl::UnavailableError("connection cut");
  }
  absl::Status ImportVersion(
      absl::FunctionRef<absl::StatusOr<bool>(v1::ImportVersionChunk*)> next,
      v1::VersionInfo* response) override {
    for (;;) {
      v1::ImportVersionChunk chunk;
      CONSILIUM_ASSIGN_OR_RETURN(const bool more, next(&chunk));
      if (!more) break;
      fake_.chunks.push_back(chunk);
    }
    return Run("ImportVersion", v1::GetStatusRequest(), response);
  }

 protected:
  absl::Status NotHere(std::string_view method) const override {
    return absl::UnimplementedError(Cat(method));
  }

 private:
  absl::Status Run(const std::string& method,
                   const google::protobuf::Message& request,
                   google::protobuf::Message* response) {
    fake_.calls.push_back(Cat(method, " ", request.ShortDebugString()));
    if (const auto e = fake_.errors.find(method); e != fake_.errors.end()) {
      return e->second;
    }
    if (const auto a = fake_.answers.find(method); a != fake_.answers.end()) {
      response->CopyFrom(*a->second);
    }
    return absl::OkStatus();
  }

  FakeCoordinator& fake_;
};

class CliTest : public ::testing::Test {
 protected:
  CliTest() : clock_(kCliNow), sleeper_(&clock_) {
    env_.fs = PosixFileSystem();
    env_.clock = &clock_;
    env_.sleeper = &sleeper_;
    env_.random = &random_;
    env_.variables =
        [this](const std::string& name) -> std::optional<std::string> {
      const auto found = variables_.find(name);
      if (found == variables_.end()) return std::nullopt;
      return found->second;
    };
    env_.connect = [this](
                       const GlobalOptions&,
                       const CliEnvironment&) -> absl::StatusOr<AdminSession> {
      CONSILIUM_RETURN_IF_ERROR(connect_error_);
      AdminSession session;
      session.api = std::make_unique<FakeAdmin>(&fake_);
      session.config.coordinator = "fl.example.org:8443";
      session.signing_key = signing_key_;
      return session;
    };
  }

  int Run(const std::vector<std::string>& args) {
    out_.str("");
    err_.str("");
    env_.out = &out_;
    env_.err = &err_;
    return RunCli(args, env_);
  }
  std::string out() const { return out_.str(); }
  std::string err() const { return err_.str(); }
  nlohmann::json Json() const { return nlohmann::json::parse(out_.str()); }

  FakeClock clock_;
  FakeSleeper sleeper_;
  SeededRandom random_;
  FakeCoordinator fake_;
  std::map<std::string, std::string> variables_;
  absl::Status connect_error_;
  std::optional<VerifyKey> signing_key_;  // that the operator has pinned
  CliEnvironment env_;

 private:
  std::ostringstream out_;
  std::ostringstream err_;
};

}  // namespace consilium

#endif  // CONSILIUM_TESTS_UNIT_COORDINATOR_CLI_CLI_HARNESS_H_
