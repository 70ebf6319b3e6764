// consilium: the command of operators and auditors.

#include <sys/ioctl.h>
#include <unistd.h>

#include <iostream>
#include <string>
#include <vector>

#include "consilium/base/retry.h"
#include "consilium/secure/random.h"
#include "consilium/secure/tls13.h"
#include "coordinator/cli/cli.h"
#include "coordinator/cli/exit_codes.h"

int main(int argc, char** argv) {
  const absl::Status tls = consilium::ConfigureTls13Only();
  if (!tls.ok()) {
    std::cerr << "consilium: " << tls.message() << "\n";
    return consilium::kExitFailed.code;
  }
  consilium::CliEnvironment environment;
  environment.out = &std::cout;
  environment.err = &std::cerr;
  environment.terminal = ::isatty(STDOUT_FILENO) == 1;
  winsize size{};
  if (environment.terminal && ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 &&
      size.ws_col > 0) {
    environment.width = size.ws_col;
  }
  environment.fs = consilium::PosixFileSystem();
  environment.clock = consilium::SystemClock();
  environment.sleeper = consilium::SystemSleeper();
  environment.random = consilium::SystemRandom();
  environment.zone = absl::LocalTimeZone();
  environment.variables = consilium::ProcessEnvironment();
  environment.connect = consilium::ConnectAdmin;
  return consilium::RunCli(std::vector<std::string>(argv + 1, argv + argc),
                           environment);
}
