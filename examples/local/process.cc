#include "examples/local/process.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include "consilium/base/strings.h"

namespace consilium {
namespace {

int ExitCode(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Process>> Process::Start(
    const std::vector<std::string>& argv, const std::string& log,
    const std::vector<std::string>& extra_environment) {
  if (access(argv[0].c_str(), X_OK) != 0) {
    return absl::NotFoundError(
        Cat(argv[0], " is not there; build it with `./run build`"));
  }
  std::vector<char*> args;
  for (const std::string& arg : argv) {
    args.push_back(const_cast<char*>(arg.c_str()));
  }
  args.push_back(nullptr);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) {
    return absl::InternalError(Cat("fork: ", std::strerror(errno)));
  }
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(127);
    sigset_t none;
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, nullptr);
    const int out = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (out >= 0) {
      dup2(out, STDOUT_FILENO);
      dup2(out, STDERR_FILENO);
    }
    const int in = open("/dev/null", O_RDONLY);
    if (in >= 0) dup2(in, STDIN_FILENO);
    for (int fd = 3; fd < 1024; ++fd) close(fd);
    for (const std::string& entry : extra_environment) {
      putenv(const_cast<char*>(entry.c_str()));
    }
    execv(args[0], args.data());
    _exit(127);
  }
  return std::unique_ptr<Process>(new Process(pid));
}

Process::~Process() { Kill9(); }

std::optional<int> Process::Poll() {
  if (exit_.has_value()) return exit_;
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) == pid_) exit_ = ExitCode(status);
  return exit_;
}

int Process::Wait(absl::Duration timeout) {
  const absl::Time until = absl::Now() + timeout;
  while (!Poll().has_value()) {
    if (absl::Now() > until) {
      Kill9();
      break;
    }
    poll(nullptr, 0, 5);
  }
  return *exit_;
}

void Process::Signal(int signal) {
  if (!Poll().has_value()) kill(pid_, signal);
}

void Process::Kill9() {
  if (Poll().has_value()) return;
  kill(pid_, SIGKILL);
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  exit_ = ExitCode(status);
}

Process::Usage Process::usage() const {
  Usage usage;
  std::ifstream status(Cat("/proc/", pid_, "/status"));
  for (std::string line; std::getline(status, line);) {
    long long kib = 0;
    if (std::sscanf(line.c_str(), "VmHWM: %lld kB", &kib) == 1) {
      usage.peak_resident_bytes = kib * 1024;
    } else if (std::sscanf(line.c_str(), "VmRSS: %lld kB", &kib) == 1) {
      usage.resident_bytes = kib * 1024;
    }
  }
  std::ifstream stat(Cat("/proc/", pid_, "/stat"));
  std::string text((std::istreambuf_iterator<char>(stat)),
                   std::istreambuf_iterator<char>());
  const size_t paren = text.rfind(')');
  if (paren != std::string::npos) {
    std::istringstream fields(text.substr(paren + 2));
    std::string skip;
    for (int i = 0; i < 11; ++i) fields >> skip;
    double user = 0;
    double system = 0;
    fields >> user >> system;
    usage.cpu_seconds =
        (user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
  }
  return usage;
}

int FreePort() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  int port = 0;
  if (fd >= 0 &&
      bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 &&
      getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0) {
    port = ntohs(address.sin_port);
  }
  if (fd >= 0) close(fd);
  return port;
}

std::string OwnFolder() {
  char buffer[4096];
  const ssize_t n = readlink("/proc/self/exe", buffer, sizeof buffer);
  std::string path(buffer, n > 0 ? static_cast<size_t>(n) : 0);
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

}  // namespace consilium
