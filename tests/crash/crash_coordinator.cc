// The coordinator, for tests that kill it: the same server object on the same
// configuration, which announces every change of a file and every commit of
// SQLite to the kill switch that CONSILIUM_KILL_SWITCH names.
//   crash_coordinator --config FILE

#include <sqlite3.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>

#include "consilium/base/strings.h"
#include "consilium/secure/tls13.h"
#include "coordinator/app/config.h"
#include "coordinator/app/logging.h"
#include "coordinator/app/server.h"
#include "tests/crash/kill_switch.h"

namespace consilium {
namespace {

KillSwitch* g_kill = nullptr;
// What the transaction under way does, in words; of the one writer thread.
thread_local std::string t_deeds;

// The n-th text between quotes, counted from 0.
std::string_view Quoted(std::string_view sql, int n) {
  for (;; --n) {
    const size_t first = sql.find('\'');
    const size_t end = sql.find('\'', first + 1);
    if (first == sql.npos || end == sql.npos) return "";
    if (n == 0) return sql.substr(first + 1, end - first - 1);
    sql.remove_prefix(end + 1);
  }
}

// Phases of rounds and states of contributions that are stored, and actions of
// operators.
void NoteDeed(sqlite3_stmt* statement, std::string_view sql) {
  const bool phase = sql.starts_with("UPDATE round SET attempt") ||
                     sql.starts_with("INSERT INTO round (");
  const bool contribution = sql.starts_with("INSERT INTO contribution") ||
                            sql.starts_with("UPDATE contribution SET state");
  const bool audit = sql.starts_with("INSERT INTO audit");
  if (!phase && !contribution && !audit) return;
  char* const text = sqlite3_expanded_sql(statement);
  if (text == nullptr) return;
  std::string_view values = text;
  if (contribution && values.starts_with("INSERT")) {
    CatInto(t_deeds, " upload");
  } else {
    CatInto(t_deeds, " ", Quoted(values, audit ? 1 : 0));
  }
  sqlite3_free(text);
}

// Before a COMMIT begins, and after it is durable, before anybody is told.
int OnStatement(unsigned event, void*, void* statement, void*) {
  auto* const prepared = static_cast<sqlite3_stmt*>(statement);
  const char* text = sqlite3_sql(prepared);
  const std::string_view sql = text == nullptr ? "" : text;
  if (event == SQLITE_TRACE_STMT) NoteDeed(prepared, sql);
  if (sql == "ROLLBACK") t_deeds.clear();
  if (sql != "COMMIT") return 0;
  const bool before = event == SQLITE_TRACE_STMT;
  g_kill->Step(Cat(before ? "commit" : "after the commit", t_deeds));
  if (!before) t_deeds.clear();
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
