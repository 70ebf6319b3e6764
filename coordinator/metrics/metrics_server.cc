#include "coordinator/metrics/metrics_server.h"

#include <sys/socket.h>

#include <atomic>
#include <exception>
#include <string_view>
#include <thread>
#include <utility>

#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/proxy.h"
#include "httplib.h"

namespace consilium {
namespace {

constexpr size_t kThreads = 4;
constexpr time_t kTimeoutSeconds = 5;
constexpr char kPlain[] = "text/plain; charset=utf-8";
constexpr char kExposition[] = "text/plain; version=0.0.4; charset=utf-8";

class HttplibServer final : public MetricsServer {
 public:
  explicit HttplibServer(MetricsHandlers handlers) {
    server_.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
    // The library's own choice lets two processes share the port.
    server_.set_socket_options([](socket_t socket) {
      const int on = 1;
      ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    });
    server_.set_payload_max_length(0);
    server_.set_read_timeout(kTimeoutSeconds);
    server_.set_write_timeout(kTimeoutSeconds);
    server_.set_keep_alive_max_count(100);
    server_.set_keep_alive_timeout(kTimeoutSeconds);
    server_.set_exception_handler([](const httplib::Request&,
                                     httplib::Response& response,
                                     std::exception_ptr) {
      response.status = 500;
      response.set_content("internal error\n", kPlain);
    });
    // Before the library waits for a body.
    server_.set_pre_routing_handler(
        [](const httplib::Request& request, httplib::Response& response) {
          if (request.method == "GET" || request.method == "HEAD") {
            return httplib::Server::HandlerResponse::Unhandled;
          }
          response.status = 405;
          response.set_header("Connection", "close");
          return httplib::Server::HandlerResponse::Handled;
        });
    server_.Get("/metrics",
                [metrics = std::move(handlers.metrics)](
                    const httplib::Request&, httplib::Response& response) {
                  response.set_content(metrics(), kExposition);
                });
    server_.Get("/healthz",
                [](const httplib::Request&, httplib::Response& response) {
                  response.set_content("ok\n", kPlain);
                });
    server_.Get(
        "/readyz", [ready = std::move(handlers.ready),
                    warnings = std::move(handlers.warnings)](
                       const httplib::Request&, httplib::Response& response) {
          const absl::Status status = ready();
          if (!status.ok()) response.status = 503;
          std::string text =
              status.ok() ? "ready\n" : Cat(StdView(status.message()), "\n");
          if (warnings) {
            for (const std::string& warning : warnings()) {
              CatInto(text, "warning: ", warning, "\n");
            }
          }
          response.set_content(text, kPlain);
        });
  }

  ~HttplibServer() override {
    if (!thread_.joinable()) return;
    server_.stop();
    thread_.join();
  }

  absl::Status Listen(const std::string& address) {
    absl::StatusOr<HostPort> parsed = HostPort::ParseListening(address);
    if (!parsed.ok()) {
      return Annotate(parsed.status(), "listen.metrics_address");
    }
    const HostPort& to = *parsed;
    try {
      port_ = to.port == 0 ? server_.bind_to_any_port(to.host)
              : server_.bind_to_port(to.host, to.port) ? to.port
                                                       : -1;
      if (port_ <= 0) {
        return absl::UnavailableError(
            Cat("cannot listen on ", address,
                " (listen.metrics_address): in use, or not an address of this "
                "machine"));
      }
      thread_ = std::thread([this] {
        server_.listen_after_bind();
        ended_.store(true);
      });
    } catch (const std::exception& e) {
      return absl::UnavailableError(
          Cat("cannot listen on ", address, ": ", e.what()));
    }
    // stop() has no effect before the loop has begun.
    while (!server_.is_running() && !ended_.load()) std::this_thread::yield();
    return absl::OkStatus();
  }

  int port() const override { return port_; }

 private:
  httplib::Server server_;
  std::thread thread_;
  std::atomic<bool> ended_ = false;
  int port_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::Start(
    const std::string& address, MetricsHandlers handlers) {
  auto server = std::make_unique<HttplibServer>(std::move(handlers));
  CONSILIUM_RETURN_IF_ERROR(server->Listen(address));
  return server;
}

}  // namespace consilium
