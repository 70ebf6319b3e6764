#include "coordinator/app/server.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "consilium/base/mutex.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/base/threads.h"
#include "consilium/base/version.h"
#include "consilium/secure/ed25519.h"
#include "consilium/secure/grpc/channel.h"
#include "consilium/secure/grpc/credentials.h"
#include "consilium/secure/grpc/peer.h"
#include "consilium/secure/proxy.h"
#include "consilium/secure/random.h"
#include "consilium/secure/storage_key.h"
#include "coordinator/app/certificates.h"
#include "coordinator/app/readiness.h"
#include "coordinator/engine/anchored_clock.h"
#include "coordinator/metrics/metrics_server.h"
#include "coordinator/metrics/prometheus_metrics.h"
#include "coordinator/rpc/admin_service.h"
#include "coordinator/rpc/connection_gate.h"
#include "coordinator/rpc/federation_service.h"
#include "coordinator/rpc/upload_chunk.h"
#include "grpcpp/resource_quota.h"
#include "grpcpp/server_builder.h"

namespace consilium {
namespace {

constexpr int kRpcThreads = 4;
constexpr int kMessageMargin = 64 << 10;

EngineOptions OptionsOf(const CoordinatorConfig& c) {
  EngineOptions o;
  o.federation = c.federation.name;
  o.sealing = c.sealing;
  o.round_defaults = c.rounds;
  o.max_update_bytes = c.storage.max_update_bytes;
  o.max_spool_bytes = c.storage.max_spool_bytes;
  o.max_uploads = c.limits.max_uploads;
  o.upload_idle_timeout = c.limits.upload_idle_timeout;
  o.upload_slot_timeout = c.limits.upload_slot_timeout;
  o.max_resumes = c.limits.max_resumes;
  o.max_superseded_uploads = c.limits.max_superseded_uploads;
  o.frame_memory = c.limits.frame_memory;
  o.max_tokens = static_cast<double>(c.limits.max_tokens);
  o.metadata.max_metadata_bytes = c.limits.max_metadata_bytes;
  o.metadata.max_metrics = c.limits.max_metrics;
  o.layout.max_slots = c.limits.max_layout_slots;
  o.layout.max_text_bytes = c.limits.max_layout_bytes;
  o.fold_threads = static_cast<int>(c.workers.fold_threads);
  o.long_poll = c.limits.long_poll_timeout;
  o.progress_period = c.limits.progress_period;
  o.connected_for = c.limits.connected_for;
  o.token_lifetime = c.enrollment.token_lifetime;
  o.institution_lifetime = c.certificates.institution_lifetime;
  o.operator_lifetime = c.certificates.operator_lifetime;
  o.renew_before = c.certificates.renew_before;
  o.failure_pause = c.failure_pause;
  o.retention.spool_retention = c.storage.spool_retention;
  o.retention.keep_versions = c.storage.version_retention;
  o.retention_interval = c.storage.retention_interval;
  return o;
}

MetricsServerOptions MetricsOf(const CoordinatorConfig& c) {
  MetricsServerOptions o;
  o.address = c.listen.metrics_address;
  o.max_connections = c.limits.max_metrics_connections;
  o.max_request_bytes = c.limits.max_metrics_request_bytes;
  o.timeout = c.limits.metrics_timeout;
  return o;
}

ConnectionGate::Options GateOf(const CoordinatorConfig& c) {
  const CoordinatorConfig::Limits& limits = c.limits;
  ConnectionGate::Options o;
  o.address = c.listen.enrollment_address;
  o.address_key = "listen.enrollment_address";
  o.max_connections = limits.max_enrollment_connections;
  o.max_connections_per_address =
      c.limits.max_enrollment_connections_per_address;
  o.max_connections_per_address_key =
      "limits.max_enrollment_connections_per_address";
  o.max_bytes = limits.max_enrollment_bytes;
  o.max_bytes_key = "limits.max_enrollment_bytes";
  o.max_age = limits.enrollment_timeout;
  o.max_age_key = "limits.enrollment_timeout";
  return o;
}

absl::StatusOr<std::unique_ptr<grpc::Server>> Listen(
    const std::string& address,
    std::shared_ptr<grpc::ServerCredentials> credentials,
    const ServerOptions& options, const std::vector<grpc::Service*>& services,
    std::string_view key, int* port) {
  grpc::ServerBuilder builder;
  builder.AddListeningPort(address, std::move(credentials), port);
  ApplyServerOptions(options, builder);
  for (grpc::Service* const service : services) {
    builder.RegisterService(service);
  }
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || *port == 0) {
    return absl::UnavailableError(
        Cat("cannot listen on ", address, " (", key,
            "); is the port in use, or the address not of this host?"));
  }
  return server;
}

// The address of a listener; a port that the system chose is known by now.
std::string WithPort(const std::string& listen, int port) {
  auto address = HostPort::ParseListening(listen);
  if (!address.ok() || address->port != 0) return listen;
  address->port = static_cast<uint16_t>(port);
  return address->ToString();
}

LogLevel LevelOf(std::string_view word) {
  const auto level = ParseLogLevel(word);
  return level.ok() ? *level : LogLevel::kInfo;
}

class Server final : public CoordinatorServer {
 public:
  Server(const CoordinatorConfig& config, Logger* logger, FileSystem* fs,
         Clock* clock)
      : config_(config),
        live_(config),
        logger_(logger),
        fs_(fs),
        wall_(clock),
        clock_(clock),
        authenticator_(config.federation.name),
        ingest_(std::make_unique<ThreadPool>(
            static_cast<size_t>(config.workers.ingest_threads))),
        rpc_(std::make_unique<ThreadPool>(kRpcThreads)),
        admin_(std::make_unique<ThreadPool>(
            static_cast<size_t>(config.workers.admin_threads))) {}
  ~Server() override { Stop(); }

  absl::Status Run() {
    CONSILIUM_RETURN_IF_ERROR(LoadKeys());
    StoreOptions store;
    store.fs = fs_;
    store.data_dir = config_.storage.data_dir;
    // A long operation may read for as long as it runs.
    store.max_readers = static_cast<int>(config_.storage.reader_connections +
                                         config_.limits.max_admin_jobs);
    store.syncer_threads = static_cast<int>(config_.workers.sync_threads);
    store.min_free_bytes = config_.storage.min_free_bytes;
    store.spare_bytes = config_.storage.spare_bytes;
    metrics_ = std::make_unique<PrometheusMetrics>(
        config_.federation.name, SoftwareVersion(), clock_.Now());
    store.on_spool_synced = [metrics = metrics_.get()](absl::Duration took,
                                                       int64_t bytes) {
      metrics->OnSpoolSync(took, bytes);
    };
    CONSILIUM_ASSIGN_OR_RETURN(store_, Store::Open(store));
    EngineDeps deps;
    deps.store = store_.get();
    deps.clock = &clock_;
    deps.wall = wall_;
    deps.random = SystemRandom();
    deps.ingest = ingest_.get();
    deps.listener = metrics_.get();
    deps.signing_key = &*signing_key_;
    deps.storage_key = &*storage_key_;
    deps.ca = &certificates_->ca();
    deps.each_minute = [this] { certificates_->Look(*engine_); };
    deps.log = [this](std::string_view level, int64_t round,
                      std::string_view institution, std::string_view text) {
      logger_->Log(LevelOf(level),
                   LogContext{}.WithRound(round).WithInstitution(institution),
                   text);
    };
    engine_ = std::make_unique<Engine>(OptionsOf(config_), std::move(deps));
    CONSILIUM_RETURN_IF_ERROR(engine_->Start());
    CONSILIUM_RETURN_IF_ERROR(StartListeners());
    certificates_->Look(*engine_);
    if (!config_.sealing) {
      logger_->Warn({},
                    "sealing.mode is \"off\": uploads lie on this disk "
                    "unencrypted");
    }
    logger_->Info({}, Cat("federation ", config_.federation.name,
                          ": institutions on port ", port_,
                          enrollment_port_ == 0
                              ? std::string(", enrolment is closed")
                              : Cat(", enrolment on port ", enrollment_port_),
                          metrics_port() == 0
                              ? std::string()
                              : Cat(", metrics on port ", metrics_port())));
    return absl::OkStatus();
  }

  void Stop() override {
    if (stopped_.exchange(true)) return;
    ready_.store(false);
    if (engine_ != nullptr) engine_->Stop();
    // Our own calls have ended; a client that does not listen just now (it
    // trains) would hold its connection for longer, and transfers resume.
    const auto deadline = absl::ToChronoTime(absl::Now() + absl::Seconds(1));
    if (gate_ != nullptr) gate_->StopAccepting();
    if (server_ != nullptr) server_->Shutdown(deadline);
    if (enrollment_server_ != nullptr) enrollment_server_->Shutdown(deadline);
    server_.reset();
    enrollment_server_.reset();
    http_.reset();  // it asks the gate
    gate_.reset();
    // What streams left behind still writes to the store. Strands hand on from
    // one pool to the other.
    admin_.reset();
    rpc_.reset();
    ingest_.reset();
    if (store_ != nullptr) {
      const absl::Status closed = store_->Close();
      if (!closed.ok()) logger_->Error({}, StdView(closed.message()));
    }
    logger_->Info({}, "stopped");
  }

  absl::Status Reload() override {
    // Each by itself: a log that cannot be opened keeps no certificate out.
    const absl::Status log = logger_->Reopen();
    const absl::Status certificates = certificates_->Reload();
    certificates_->Look(*engine_);
    for (const absl::Status& status : {log, certificates}) {
      if (status.ok()) continue;
      logger_->Error({}, Cat("reload: ", StdView(status.message())));
    }
    if (log.ok()) logger_->Info({}, "reloaded: log file");
    if (certificates.ok()) logger_->Info({}, "reloaded: certificates");
    return log.ok() ? certificates : log;
  }

  absl::Status Reload(const absl::StatusOr<CoordinatorConfig>& fresh) override {
    if (!fresh.ok()) {
      logger_->Error({}, Cat("reload: everything stays as it was: ",
                             StdView(fresh.status().message())));
      return fresh.status();
    }
    const absl::Status reloaded = Reload();
    Take(*fresh);
    return reloaded;
  }

  Engine& engine() override { return *engine_; }
  int port() const override { return port_; }
  int enrollment_port() const override { return enrollment_port_; }
  int metrics_port() const override {
    return http_ == nullptr ? 0 : http_->port();
  }

 private:
  void Take(const CoordinatorConfig& fresh) {
    MutexLock lock(&reload_mu_);
    std::string taken;
    std::string waiting;
    for (const std::string& key : ChangedKeys(config_, fresh)) {
      if (!IsLiveKey(key)) {
        CatInto(waiting, waiting.empty() ? "" : ", ", key);
      }
    }
    for (const std::string& key : ChangedKeys(live_, fresh)) {
      if (IsLiveKey(key)) CatInto(taken, taken.empty() ? "" : ", ", key);
    }
    live_ = fresh;
    logger_->SetLevel(fresh.log.level);
    store_->space().SetMinFreeBytes(fresh.storage.min_free_bytes);
    engine_->SetLimits(OptionsOf(fresh));
    if (!taken.empty()) {
      logger_->Info({}, Cat("reload: changed and in use: ", taken));
    }
    if (!waiting.empty()) {
      logger_->Warn(
          {}, Cat("reload: changed, and in use after a restart: ", waiting));
    }
  }

  absl::Status LoadKeys() {
    CONSILIUM_ASSIGN_OR_RETURN(
        SigningKey signing, SigningKey::LoadFile(fs_, config_.tls.signing_key));
    signing_key_.emplace(std::move(signing));
    CONSILIUM_ASSIGN_OR_RETURN(
        StorageKey storage,
        StorageKey::LoadFile(fs_, config_.storage.storage_key));
    storage_key_.emplace(std::move(storage));
    CONSILIUM_ASSIGN_OR_RETURN(
        certificates_, CertificateKeeper::Load(config_, fs_, wall_, logger_));
    return absl::OkStatus();
  }

  // Behind the gate every caller seems to be this machine.
  std::string PeerOf(std::string_view peer) const {
    return gate_->PeerOf(peer);
  }

  absl::Status StartListeners() {
    RpcDeps deps;
    deps.engine = engine_.get();
    deps.authenticator = &authenticator_;
    deps.executor = rpc_.get();
    deps.ingest = ingest_.get();
    deps.max_streams_per_institution =
        config_.limits.max_streams_per_institution;
    deps.max_calls_per_institution = config_.limits.max_calls_per_institution;
    deps.max_control_bytes = config_.limits.max_control_bytes;
    deps.max_calls = config_.limits.max_waiting_calls;
    FederationLimits limits;
    limits.upload_window_bytes =
        static_cast<uint64_t>(config_.limits.upload_window_bytes);
    limits.max_metrics = static_cast<int>(config_.limits.max_metrics);
    limits.renewals_per_hour = config_.limits.renewals_per_hour;
    federation_service_ = std::make_unique<FederationServiceImpl>(deps, limits);
    AdminServiceOptions admin;
    admin.server_lifetime = config_.certificates.server_lifetime;
    admin.renew_before = config_.certificates.renew_before;
    admin.institution_lifetime = config_.certificates.institution_lifetime;
    admin.server_certificate = config_.tls.server_certificate;
    admin.server_key = config_.tls.server_key;
    if (!config_.listen.enrollment_address.empty()) {
      CONSILIUM_RETURN_IF_ERROR(OpenGate());
      admin.enrollment_address = EnrollmentAddress();
    }
    admin.identity = certificates_->server();
    admin.ca = &certificates_->ca();
    admin.max_jobs = config_.limits.max_admin_jobs;
    // No thread that an institution waits for is ever busy for an operator.
    RpcDeps admin_deps = deps;
    admin_deps.executor = admin_.get();
    admin_deps.ingest = admin_.get();
    admin_service_ = std::make_unique<AdminServiceImpl>(admin_deps, admin);

    ServerOptions options;
    options.keepalive_time = config_.keepalive.ping_interval;
    options.keepalive_timeout = config_.keepalive.ping_timeout;
    options.min_ping_interval = config_.keepalive.minimum_client_interval;
    options.stream_lookahead_bytes =
        static_cast<int>(config_.limits.stream_lookahead_bytes);
    // A little more, so that what is just too large is refused by name.
    options.max_message_bytes =
        kMessageMargin +
        std::max(static_cast<int>(kMaxUploadMessageBytes),
                 static_cast<int>(config_.limits.max_control_bytes));
    options.max_streams_per_connection =
        static_cast<int>(config_.limits.max_streams_per_connection);
    options.handshake_timeout = config_.limits.handshake_timeout;
    CONSILIUM_ASSIGN_OR_RETURN(
        server_, Listen(config_.listen.address,
                        MakeServerCredentials(certificates_->server()), options,
                        {federation_service_.get(), admin_service_.get()},
                        "listen.address", &port_));
    if (!config_.listen.enrollment_address.empty()) {
      CONSILIUM_RETURN_IF_ERROR(StartEnrollment(deps, options));
    }
    if (!config_.listen.metrics_address.empty()) {
      readiness_ = std::make_unique<Readiness>(
          store_.get(), wall_, [this] { return engine_->Overdue(); },
          Readiness::Options{config_.readiness.check_interval,
                             config_.readiness.engine_late_after,
                             config_.readiness.write_late_after});
      MetricsHandlers handlers;
      handlers.metrics = [this] { return Metrics(); };
      handlers.ready = [this]() -> absl::Status {
        if (!ready_.load()) return absl::UnavailableError("stopping");
        CONSILIUM_RETURN_IF_ERROR(certificates_->Check());
        return readiness_->Check();
      };
      handlers.warnings = [this] { return certificates_->Warnings(); };
      MetricsServerOptions http = MetricsOf(config_);
      http.clock = wall_;
      CONSILIUM_ASSIGN_OR_RETURN(
          http_, MetricsServer::Start(std::move(http), std::move(handlers)));
    }
    ready_.store(true);
    return absl::OkStatus();
  }

  // Told to whom enrols.
  std::string ServiceAddress() const {
    if (!config_.listen.advertised_address.empty()) {
      return config_.listen.advertised_address;
    }
    return WithPort(config_.listen.address, port_);
  }

  // Told to whom is invited. Where it is the same host, it is known by the same
  // name.
  std::string EnrollmentAddress() const {
    const CoordinatorConfig::Listen& listen = config_.listen;
    const auto service = HostPort::ParseListening(listen.address);
    const auto here = HostPort::ParseListening(listen.enrollment_address);
    auto told = HostPort::Parse(listen.advertised_address);
    if (!told.ok() || !service.ok() || !here.ok() ||
        service->host != here->host) {
      return WithPort(listen.enrollment_address, enrollment_port_);
    }
    told->port = static_cast<uint16_t>(enrollment_port_);
    return told->ToString();
  }

  // What nobody reports, as it is now.
  std::string Metrics() {
    if (gate_ != nullptr) {
      const ConnectionGate::Counts n = gate_->counts();
      metrics_->SetRefusedConnections({{"too_many", n.too_many},
                                       {"too_long", n.too_long},
                                       {"too_old", n.too_old}});
    }
    std::map<std::string, int64_t> contributions;
    const absl::Status read =
        store_->history().Read([&](ReadTx& tx) -> absl::Status {
          CONSILIUM_ASSIGN_OR_RETURN(contributions,
                                     CountNewestContributions(tx));
          return absl::OkStatus();
        });
    // /readyz tells of a store that cannot be read.
    if (read.ok()) metrics_->SetContributions(contributions);
    return metrics_->Render();
  }

  // Connections wait until StartEnrollment.
  absl::Status OpenGate() {
    ConnectionGate::Options gate = GateOf(config_);
    gate.clock = wall_;
    gate.report = [logger = logger_](std::string_view text) {
      logger->Warn({}, text);
    };
    CONSILIUM_ASSIGN_OR_RETURN(gate_, ConnectionGate::Open(std::move(gate)));
    enrollment_port_ = gate_->port();
    return absl::OkStatus();
  }

  // Anybody may reach that port, so gRPC itself does not listen there.
  absl::Status StartEnrollment(const RpcDeps& deps, ServerOptions options) {
    RateLimit::Options enrollments;
    enrollments.what = "enrolments";
    enrollments.per_minute = config_.limits.enrollments_per_minute;
    enrollments.per_minute_key = "limits.enrollments_per_minute";
    enrollments.per_minute_and_address =
        config_.limits.enrollments_per_minute_and_address;
    enrollments.per_minute_and_address_key =
        "limits.enrollments_per_minute_and_address";
    enrollment_service_ = std::make_unique<EnrollmentServiceImpl>(
        deps, certificates_->ca().Get()->root_pem(), ServiceAddress(),
        std::move(enrollments),
        [this](std::string_view peer) { return PeerOf(peer); });
    options.max_message_bytes =
        static_cast<int>(config_.limits.max_enrollment_bytes);
    grpc::ServerBuilder builder;
    ApplyServerOptions(options, builder);
    builder.RegisterService(enrollment_service_.get());
    acceptor_ = builder.experimental().AddExternalConnectionAcceptor(
        grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
        MakeEnrollmentServerCredentials(certificates_->server()));
    enrollment_server_ = builder.BuildAndStart();
    if (enrollment_server_ == nullptr) {
      return absl::InternalError("gRPC does not start for enrolment");
    }
    gate_->Start([acceptor = acceptor_.get()](int fd) {
      grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters
          connection;
      connection.fd = fd;
      acceptor->HandleNewConnection(&connection);
    });
    return absl::OkStatus();
  }

  const CoordinatorConfig config_;
  Mutex reload_mu_;
  CoordinatorConfig live_ ABSL_GUARDED_BY(reload_mu_);  // of the last reload
  Logger* const logger_;
  FileSystem* const fs_;
  Clock* const wall_;  // steps when somebody sets it
  AnchoredClock clock_;
  PeerAuthenticator authenticator_;
  std::optional<SigningKey> signing_key_;
  std::optional<StorageKey> storage_key_;
  std::unique_ptr<CertificateKeeper> certificates_;
  std::unique_ptr<PrometheusMetrics> metrics_;  // the store reports to it
  std::unique_ptr<Store> store_;
  std::unique_ptr<Engine> engine_;
  // The pools finish before what their tasks use goes.
  std::unique_ptr<ThreadPool> ingest_;
  std::unique_ptr<ThreadPool> rpc_;
  std::unique_ptr<ThreadPool> admin_;
  std::unique_ptr<FederationServiceImpl> federation_service_;
  std::unique_ptr<EnrollmentServiceImpl> enrollment_service_;
  std::unique_ptr<AdminServiceImpl> admin_service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor_;
  std::unique_ptr<grpc::Server> enrollment_server_;
  std::unique_ptr<ConnectionGate> gate_;
  std::unique_ptr<Readiness> readiness_;
  std::unique_ptr<MetricsServer> http_;
  std::atomic<bool> ready_{false};
  int port_ = 0;
  int enrollment_port_ = 0;
  std::atomic<bool> stopped_{false};
};

}  // namespace

absl::StatusOr<std::unique_ptr<CoordinatorServer>> CoordinatorServer::Start(
    const CoordinatorConfig& config, Logger* logger, FileSystem* fs,
    Clock* clock) {
  auto server = std::make_unique<Server>(config, logger, fs, clock);
  if (const absl::Status status = server->Run(); !status.ok()) {
    logger->Error({}, Cat("cannot start: ", StdView(status.message())));
    return status;
  }
  return std::unique_ptr<CoordinatorServer>(std::move(server));
}

}  // namespace consilium
