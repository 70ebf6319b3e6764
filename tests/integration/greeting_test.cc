// What an institution says of itself when it greets: its software and its
// codecs.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "consilium/v1/federation.grpc.pb.h"
#include "proto/wire/status.h"
#include "tests/integration/harness.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace consilium {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class GreetingTest : public testing::Test {
 protected:
  GreetingTest() {
    TestFederation::Options options;
    options.log.file = LogPath();
    options.log.level = LogLevel::kInfo;
    federation_ = std::make_unique<TestFederation>(std::move(options));
    federation_->Enroll("bank-a");
  }
  std::string LogPath() const { return JoinPath(dir_.path(), "log"); }
  std::string Log() const {
    const auto text = ReadWholeFile(PosixFileSystem(), LogPath(), 1 << 20);
    return text.ok() ? *text : std::string(text.status().message());
  }
  absl::Status Greet(const std::string& software,
                     const std::vector<uint32_t>& codecs) {
    const auto stub = v1::FederationService::NewStub(
        federation_->ChannelWith(federation_->IdentityOf("bank-a")));
    v1::HelloRequest request;
    request.mutable_protocol()->set_min(1);
    request.mutable_protocol()->set_max(1);
    request.set_software(software);
    for (const uint32_t codec : codecs) request.add_codecs(codec);
    v1::HelloResponse response;
    grpc::ClientContext context;
    return FromGrpc(stub->Hello(&context, request, &response));
  }
  std::string Software() {
    v1::GetInstitutionRequest request;
    request.set_name("bank-a");
    v1::InstitutionInfo info;
    grpc::ClientContext context;
    EXPECT_OK(FromGrpc(
        federation_->admin().GetInstitution(&context, request, &info)));
    return info.software();
  }

  TempDir dir_;
  std::unique_ptr<TestFederation> federation_;
};

TEST_F(GreetingTest, SoftwareIsLoggedOnceAndShownToOperators) {
  EXPECT_EQ(Software(), "");
  client::ClientOptions options = federation_->OptionsFor("bank-a");
  options.software = "house-trainer 7.1";
  ASSERT_THAT(client::Client::Connect(options).status(), IsOk());
  EXPECT_EQ(Software(), "house-trainer 7.1");
  const std::string said = "bank-a] runs house-trainer 7.1";
  const size_t first = Log().find(said);
  EXPECT_NE(first, std::string::npos) << Log();
  ASSERT_OK(Greet("house-trainer 7.1", {0}));
  EXPECT_EQ(Log().find(said, first + 1), std::string::npos);
  // It comes from a peer: no line of its own, and not without end.
  ASSERT_OK(Greet("evil\nerror: all is lost" + std::string(500, 'x'), {0}));
  EXPECT_THAT(Software(),
              AllOf(Not(HasSubstr("\n")), testing::SizeIs(testing::Le(110))));
}

TEST_F(GreetingTest, WithoutACommonCodecItIsRefusedAtOnce) {
  EXPECT_THAT(Greet("new", {77, 1}),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("bank-a encodes the codecs 77 1"),
                             HasSubstr("rounds here accept 0 (f32)"))));
  EXPECT_OK(Greet("newer", {77, 0}));
  // A status report uploads nothing.
  EXPECT_OK(Greet("status", {}));
}

}  // namespace
}  // namespace consilium
