// The coordinator, for tests that kill it: the same server object on the same
// configuration, which announces every change of a file and every commit of
// SQLite to the kill switch that CONSILIUM_KILL_SWITCH names.
//   crash_coordinator --config FILE

#include <sqlite3.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string_view>

#include "consilium/secure/tls13.h"
#include "coordinator/app/config.h"
#include "coordinator/app/logging.h"
#include "coordinator/app/server.h"
#include "tests/crash/kill_switch.h"

namespace consilium {
namespace {

KillSwitch* g_kill = nullptr;

// Before a COMMIT begins, and after it is durable, before anybody is told.
int OnStatement(unsigned event, void*, void* statement, void*) {
  const char* sql = sqlite3_sql(static_cast<sqlite3_stmt*>(statement));
  if (sql == nullptr || std::string_view(sql) != "COMMIT") return 0;
  g_kill->Step(event == SQLITE_TRACE_STMT ? "commit" : "after the commit");
  return 0;
}

int OnConnection(sqlite3* db, char**, const void*) {
  return sqlite3_trace_v2(db, SQLITE_TRACE_STMT | SQLITE_TRACE_PROFILE,
                          OnStatement, nullptr);
}

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "crash_coordinator: %s\n", status.ToString().c_str());
  return 1;
}

int Serve(const char* config_path, const char* switch_path) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);

  const auto kill = KillSwitch::Open(switch_path);
  if (!kill.ok()) return Fail(kill.status());
  g_kill = kill->get();
  sqlite3_auto_extension(reinterpret_cast<void (*)()>(OnConnection));
  const absl::Status tls = ConfigureTls13Only();
  if (!tls.ok()) return Fail(tls);
  const auto config = LoadConfig(config_path);
  if (!config.ok()) return Fail(config.status());
  const auto logger = Logger::Create(config->log);
  if (!logger.ok()) return Fail(logger.status());
  KillingFileSystem fs(PosixFileSystem(), g_kill);
  const auto server = CoordinatorServer::Start(*config, logger->get(), &fs);
  if (!server.ok()) return Fail(server.status());
  int received = 0;
  sigwait(&signals, &received);
  (*server)->Stop();
  return 0;
}

}  // namespace
}  // namespace consilium

int main(int argc, char** argv) {
  const char* const kill_switch = std::getenv("CONSILIUM_KILL_SWITCH");
  if (argc != 3 || std::string_view(argv[1]) != "--config" ||
      kill_switch == nullptr) {
    std::fprintf(stderr, "CONSILIUM_KILL_SWITCH=FILE %s --config FILE\n",
                 argv[0]);
    return 2;
  }
  return consilium::Serve(argv[2], kill_switch);
}
