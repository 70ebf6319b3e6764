#include "consilium/client/enroll.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <vector>

#include "client_sdk/session/identity.h"
#include "consilium/secure/token.h"
#include "tests/support/fake_sleeper.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/client_sdk/transport/grpc_coordinator.h"
#include "tests/unit/secure/net_support.h"

namespace consilium::client::internal {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr SecretAccess kForTest("a test hands its token over");

class EnrollTest : public ::testing::Test {
 protected:
  EnrollTest() {
    coordinator_.service.token =
        EnrollmentToken::Generate(*SystemRandom()).ToText().Text(kForTest);
    options_.coordinator = coordinator_.address();
    options_.token = coordinator_.service.token;
    options_.ca_fingerprint =
        Must(CertificateFingerprint(coordinator_.pki.ca.root_pem())).Hex();
    options_.directory = directory_ / "id";
    options_.proxy = "none";
    options_.sleeper = &sleeper_;
  }
  uint32_t ModeOf(const char* name) {
    return Must(PosixFileSystem()->Stat(JoinPath(options_.directory, name)))
        .mode;
  }

  GrpcCoordinator coordinator_{/*enrolment=*/true};
  TempDir directory_;
  FakeClock clock_{absl::UnixEpoch()};
  FakeSleeper sleeper_{&clock_};
  EnrollOptions options_;
};

TEST_F(EnrollTest, MakesAnIdentityThatLoads) {
  ASSERT_OK_AND_ASSIGN(const Enrollment enrollment, Enroll(options_));
  EXPECT_EQ(enrollment.federation, "cards");
  EXPECT_EQ(enrollment.institution, "bank-a");
  EXPECT_EQ(enrollment.service_address, "coordinator.example:7443");
  EXPECT_EQ(ModeOf("client.key"), 0600u);
  ASSERT_OK_AND_ASSIGN(const InstitutionIdentity identity,
                       LoadIdentity(PosixFileSystem(), options_.directory,
                                    SystemClock()->Now()));
  EXPECT_EQ(identity.name.Uri(), "consilium://cards/institution/bank-a");
  EXPECT_EQ(identity.signing_key, coordinator_.far.Identity().signing_key);
  EXPECT_EQ(identity.leaf.serial, enrollment.certificate_serial);
  ASSERT_OK_AND_ASSIGN(
      const std::string config,
      ReadWholeFile(PosixFileSystem(), enrollment.config_path, 1 << 20));
  EXPECT_THAT(config, HasSubstr("coordinator = \"coordinator.example:7443\""));

  EXPECT_THAT(Enroll(options_),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("renew")));
}

TEST_F(EnrollTest, FingerprintsMayHaveColons) {
  std::string with_colons;
  for (size_t i = 0; i < options_.ca_fingerprint.size(); i += 2) {
    if (i > 0) with_colons += ':';
    with_colons += options_.ca_fingerprint.substr(i, 2);
  }
  options_.ca_fingerprint = with_colons;
  EXPECT_OK(Enroll(options_));
}

TEST_F(EnrollTest, GoesThroughAConnectProxy) {
  ConnectProxy proxy(static_cast<uint16_t>(coordinator_.port()));
  options_.coordinator = "coordinator.example:7444";
  options_.proxy = proxy.address().Url();
  EXPECT_OK(Enroll(options_));
  EXPECT_EQ(proxy.heads().size(), 2u);
}

TEST_F(EnrollTest, AnotherRootIsRefusedBeforeTheTokenLeaves) {
  options_.ca_fingerprint[0] = options_.ca_fingerprint[0] == 'a' ? 'b' : 'a';
  EXPECT_THAT(Enroll(options_), StatusIs(absl::StatusCode::kUnauthenticated));
  EXPECT_FALSE(
      PosixFileSystem()->Exists(JoinPath(options_.directory, "client.pem")));
}

TEST_F(EnrollTest, AWrongTokenLeavesNoIdentity) {
  options_.token =
      EnrollmentToken::Generate(*SystemRandom()).ToText().Text(kForTest);
  EXPECT_THAT(Enroll(options_),
              StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("token")));
  // The right token still works in the same directory.
  options_.token = coordinator_.service.token;
  EXPECT_OK(Enroll(options_));
}

TEST_F(EnrollTest, ABusyCoordinatorAndALostAnswerAreWaitedFor) {
  coordinator_.service.enrolment_errors = {
      absl::ResourceExhaustedError("too many enrolments; try again in 2s"),
      absl::UnavailableError("the connection broke"),
      absl::DeadlineExceededError("no answer in time"),
      absl::ResourceExhaustedError("too many enrolments; try again in 2s")};
  std::vector<absl::StatusCode> told;
  options_.on_retry = [&](const absl::Status& error, absl::Duration) {
    told.push_back(error.code());
  };
  EXPECT_OK(Enroll(options_));
  EXPECT_EQ(sleeper_.slept().size(), 4u);
  EXPECT_THAT(told, ElementsAre(absl::StatusCode::kResourceExhausted,
                                absl::StatusCode::kUnavailable,
                                absl::StatusCode::kDeadlineExceeded,
                                absl::StatusCode::kResourceExhausted));
}

// A coordinator whose port is full closes connections before a handshake.
TEST_F(EnrollTest, AConnectionThatIsClosedAtOnceIsTriedAgain) {
  std::atomic<int> seen{0};
  const LoopbackServer gate([&](int fd) {
    if (seen.fetch_add(1) < 3) return;
    const int upstream =
        DialLoopback(static_cast<uint16_t>(coordinator_.port()));
    Shuttle(fd, upstream);
    close(upstream);
  });
  options_.coordinator = Cat("localhost:", gate.port());
  EXPECT_OK(Enroll(options_));
  EXPECT_EQ(sleeper_.slept().size(), 3u);

  options_.coordinator = Cat("localhost:", ClosedPort());
  options_.directory = directory_ / "other";
  EXPECT_THAT(Enroll(options_), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_GE(sleeper_.slept().size(), 7u);
}

TEST_F(EnrollTest, ACoordinatorThatSaysNothingCanBeLeft) {
  CancelSource stop;
  const LoopbackServer silent([&](int fd) {
    char first;
    recv(fd, &first, 1, 0);
    stop.Cancel("interrupted");
    ReadHttpHead(fd);  // until the client leaves
  });
  options_.coordinator = Cat("localhost:", silent.port());
  options_.timeout = absl::Hours(1);
  EXPECT_THAT(Enroll(options_, stop.token()),
              StatusIs(absl::StatusCode::kCancelled, HasSubstr("interrupted")));
}

TEST_F(EnrollTest, WaitingEnds) {
  coordinator_.service.enrolment_errors.assign(
      1000, absl::ResourceExhaustedError("too many; try again in 2s"));
  EXPECT_THAT(Enroll(options_), StatusIs(absl::StatusCode::kResourceExhausted,
                                         HasSubstr("try again in 2s")));
  EXPECT_GE(sleeper_.slept().size(), 4u);
  EXPECT_LE(clock_.Now() - absl::UnixEpoch(), options_.retry_for);
  // What else is refused stays refused.
  coordinator_.service.enrolment_errors = {absl::UnauthenticatedError("no")};
  const size_t slept = sleeper_.slept().size();
  EXPECT_THAT(Enroll(options_), StatusIs(absl::StatusCode::kUnauthenticated));
  EXPECT_EQ(sleeper_.slept().size(), slept);
}

TEST_F(EnrollTest, TheNextAttemptHasTheSameKey) {
  options_.retry_for = absl::ZeroDuration();
  coordinator_.service.enrolment_errors = {absl::UnavailableError("lost")};
  EXPECT_THAT(Enroll(options_), StatusIs(absl::StatusCode::kUnavailable));
  const std::string path = JoinPath(options_.directory, "client.key");
  const auto key = [&] {
    return Must(ReadWholeFile(PosixFileSystem(), path, 1 << 20));
  };
  const std::string before = key();
  EXPECT_OK(Enroll(options_));
  EXPECT_EQ(key(), before);
}

// `renew` needs a certificate that is good.
TEST_F(EnrollTest, AnExpiredIdentityIsReplacedInPlace) {
  FileSystem* const fs = PosixFileSystem();
  const auto expire = [&](const std::string& name) {
    coordinator_.WriteIdentity(
        options_.directory,
        coordinator_.pki.Peer(coordinator_.pki.Name(name), absl::Hours(1),
                              coordinator_.pki.now - absl::Hours(48)));
    ASSERT_OK(WriteFileAtomic(
        fs, JoinPath(options_.directory, "consilium-client.toml"),
        AsBytes("# as it was\n")));
  };
  const auto load = [&] {
    return LoadIdentity(fs, options_.directory, SystemClock()->Now());
  };
  expire("bank-a");
  const std::string key = JoinPath(options_.directory, "client.key");
  const std::string before = Must(ReadWholeFile(fs, key, 1 << 20));
  EXPECT_THAT(load(), StatusIs(absl::StatusCode::kUnauthenticated,
                               HasSubstr("enroll --dir")));
  ASSERT_OK_AND_ASSIGN(const Enrollment again, Enroll(options_));
  ASSERT_OK_AND_ASSIGN(const InstitutionIdentity identity, load());
  EXPECT_EQ(identity.leaf.serial, again.certificate_serial);
  EXPECT_EQ(Must(ReadWholeFile(fs, key, 1 << 20)), before);
  EXPECT_EQ(Must(ReadWholeFile(fs, again.config_path, 1 << 20)),
            "# as it was\n");
  EXPECT_THAT(Enroll(options_), StatusIs(absl::StatusCode::kAlreadyExists));

  // What lies there is another institution's, and stays.
  expire("bank-b");
  EXPECT_THAT(Enroll(options_), StatusIs(absl::StatusCode::kFailedPrecondition,
                                         HasSubstr("institution/bank-b")));
  EXPECT_THAT(load(), StatusIs(absl::StatusCode::kUnauthenticated));
  // Or another coordinator's.
  expire("bank-a");
  const SigningKey other = Must(SigningKey::Generate(*SystemRandom()));
  coordinator_.service.edit_enrolment = [&](v1::EnrollResponse& r) {
    r.set_signing_public_key(other.verify_key().ToString());
  };
  EXPECT_THAT(Enroll(options_), StatusIs(absl::StatusCode::kFailedPrecondition,
                                         HasSubstr("another coordinator")));
}

// It is written into a configuration file.
TEST_F(EnrollTest, AServiceAddressThatIsNoneIsRefused) {
  for (const char* address :
       {"", "fl.example", "fl.example:0", "a\"b:1", "a\nb:1",
        "fl.example:7443\"\nproxy = \"evil:1", "a\\:1", "a#:1", "a'b:1"}) {
    coordinator_.service.edit_enrolment = [&](v1::EnrollResponse& r) {
      r.set_service_address(address);
    };
    EXPECT_THAT(Enroll(options_), StatusIs(absl::StatusCode::kUnauthenticated,
                                           HasSubstr("service address")))
        << address;
    for (const char* file :
         {"client.pem", "consilium-client.toml", "root-ca.pem"}) {
      EXPECT_FALSE(
          PosixFileSystem()->Exists(JoinPath(options_.directory, file)));
    }
  }
}

TEST_F(EnrollTest, WhatIsIssuedIsChecked) {
  const TestPki other = TestPki::Create(SystemClock()->Now());
  const TlsIdentity stranger = coordinator_.pki.Peer("bank-b");
  const std::vector<std::function<void(v1::EnrollResponse&)>> spoilers = {
      [&](v1::EnrollResponse& r) { r.set_root_ca_pem(other.ca.root_pem()); },
      [&](v1::EnrollResponse& r) {
        r.set_certificate_chain_pem(stranger.chain_pem);
      },
      [](v1::EnrollResponse& r) {
        r.set_uri("consilium://cards/institution/bank-c");
      },
      [](v1::EnrollResponse& r) { r.set_signing_public_key("short"); },
      [](v1::EnrollResponse& r) { r.set_certificate_chain_pem("no PEM"); },
  };
  for (const auto& spoil : spoilers) {
    coordinator_.service.edit_enrolment = spoil;
    EXPECT_THAT(Enroll(options_), StatusIs(absl::StatusCode::kUnauthenticated));
    EXPECT_FALSE(
        PosixFileSystem()->Exists(JoinPath(options_.directory, "client.pem")));
  }
}

TEST_F(EnrollTest, BadOptionsAreNamed) {
  EnrollOptions options = options_;
  options.ca_fingerprint = "abc";
  EXPECT_THAT(Enroll(options), StatusIs(absl::StatusCode::kInvalidArgument,
                                        HasSubstr("ca_fingerprint")));
  options = options_;
  options.token = "hunter2";
  const auto enrolled = Enroll(options);
  EXPECT_THAT(enrolled, StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(std::string(enrolled.status().message()),
              ::testing::Not(HasSubstr("hunter2")));
  options = options_;
  options.coordinator = "localhost";
  EXPECT_THAT(Enroll(options), StatusIs(absl::StatusCode::kInvalidArgument,
                                        HasSubstr("coordinator")));
}

}  // namespace
}  // namespace consilium::client::internal
