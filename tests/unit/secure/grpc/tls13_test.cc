#include "consilium/secure/tls13.h"

#include <openssl/ssl.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <memory>
#include <string>

#include "consilium/base/clock.h"
#include "consilium/base/strings.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/secure/grpc/whoami.h"
#include "tests/unit/secure/net_support.h"

namespace consilium {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class Tls13Test : public ::testing::Test {
 protected:
  const TestPki pki_ = TestPki::Create(SystemClock()->Now());
  TestServer enrollment_{pki_, pki_.Server(), /*enrollment=*/true};
  TestServer mutual_{pki_, pki_.Server()};
};

// True when a handshake with just `version` succeeds.
bool Handshakes(uint16_t port, int version) {
  SSL_CTX* const context = SSL_CTX_new(TLS_client_method());
  // This process allows 1.3 only; as a client from elsewhere would, undo that.
  SSL_CTX_clear_options(context, SSL_OP_NO_TLSv1_2 | SSL_OP_NO_TLSv1_1);
  SSL_CTX_set_min_proto_version(context, version);
  SSL_CTX_set_max_proto_version(context, version);
  SSL* const ssl = SSL_new(context);
  const int fd = DialLoopback(port);
  SSL_set_fd(ssl, fd);
  constexpr unsigned char kAlpn[] = {2, 'h', '2'};
  SSL_set_alpn_protos(ssl, kAlpn, sizeof(kAlpn));
  const bool done = SSL_connect(ssl) == 1;
  SSL_free(ssl);
  SSL_CTX_free(context);
  close(fd);
  return done;
}

TEST_F(Tls13Test, OnlyTls13Connects) {
  EXPECT_OK(ConfigureTls13Only());
  for (const TestServer* server : {&enrollment_, &mutual_}) {
    EXPECT_TRUE(Handshakes(server->port(), TLS1_3_VERSION));
    EXPECT_FALSE(Handshakes(server->port(), TLS1_2_VERSION));
    EXPECT_FALSE(Handshakes(server->port(), TLS1_1_VERSION));
  }
}

struct Outcome {
  int exit_code = -1;
  std::string output;
};

Outcome SClient(uint16_t port, const char* version) {
  const std::string command =
      Cat("openssl s_client -brief -alpn h2 -connect 127.0.0.1:", port, " ",
          version, " </dev/null 2>&1");
  Outcome run;
  FILE* const pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return run;
  std::array<char, 4096> buffer;
  while (size_t got = fread(buffer.data(), 1, buffer.size(), pipe)) {
    run.output.append(buffer.data(), got);
  }
  const int status = pclose(pipe);
  if (WIFEXITED(status)) run.exit_code = WEXITSTATUS(status);
  return run;
}

// The same, seen by a program that is not ours.
TEST_F(Tls13Test, SClientAgrees) {
  const Outcome modern = SClient(enrollment_.port(), "-tls1_3");
  if (modern.exit_code == 127) GTEST_SKIP() << "no openssl command here";
  EXPECT_EQ(modern.exit_code, 0) << modern.output;
  EXPECT_THAT(modern.output, HasSubstr("CONNECTION ESTABLISHED"));
  EXPECT_THAT(modern.output, HasSubstr("TLSv1.3"));
  const Outcome old = SClient(enrollment_.port(), "-tls1_2");
  EXPECT_NE(old.exit_code, 0) << old.output;
  EXPECT_THAT(old.output, Not(HasSubstr("CONNECTION ESTABLISHED")));
}

}  // namespace
}  // namespace consilium
