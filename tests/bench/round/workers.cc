#include "tests/bench/round/workers.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

namespace consilium::bench {

absl::StatusOr<std::unique_ptr<Worker>> Worker::Start(
    const std::vector<std::string>& argv) {
  int to_child[2];
  int from_child[2];
  if (pipe2(to_child, O_CLOEXEC) != 0 || pipe2(from_child, O_CLOEXEC) != 0) {
    return absl::InternalError("no pipes left");
  }
  std::vector<char*> args;
  for (const std::string& arg : argv) {
    args.push_back(const_cast<char*>(arg.c_str()));
  }
  args.push_back(nullptr);
  const pid_t pid = fork();
  if (pid < 0) return absl::InternalError("cannot fork");
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(to_child[0], STDIN_FILENO);
    dup2(from_child[1], STDOUT_FILENO);
    execv(args[0], args.data());
    _exit(127);
  }
  close(to_child[0]);
  close(from_child[1]);
  return std::unique_ptr<Worker>(
      new Worker(pid, fdopen(to_child[1], "w"), fdopen(from_child[0], "r")));
}

Worker::~Worker() {
  fclose(in_);
  fclose(out_);
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

absl::Status Worker::Tell(const std::string& line) {
  if (fprintf(in_, "%s\n", line.c_str()) < 0 || fflush(in_) != 0) {
    return absl::UnavailableError("a child process has ended");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> Worker::Hear() {
  char line[256];
  if (fgets(line, sizeof line, out_) == nullptr) {
    return absl::UnavailableError("a child process has ended");
  }
  std::string text(line);
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) {
    text.pop_back();
  }
  return text;
}

}  // namespace consilium::bench
