#include "coordinator/rpc/caller.h"

#include "consilium/base/local_error.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"

namespace consilium {
namespace {

// Long enough for every reason a person writes, short enough for a log.
constexpr size_t kMaxReason = 4096;

absl::StatusOr<std::shared_ptr<const Peer>> Authenticate(
    const RpcDeps& deps, const grpc::ServerContextBase& context) {
  const std::shared_ptr<const grpc::AuthContext> auth = context.auth_context();
  return deps.authenticator->PeerOf(*auth, deps.engine->WallNow());
}

}  // namespace

absl::StatusOr<Caller> AdmitInstitution(
    const RpcDeps& deps, const grpc::ServerContextBase& context) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::shared_ptr<const Peer> peer,
                             Authenticate(deps, context));
  CONSILIUM_ASSIGN_OR_RETURN(
      Caller caller, deps.engine->peers().Admit(peer->name, peer->serial));
  deps.engine->Touch(*caller.peer);
  return caller;
}

absl::StatusOr<Staff> AdmitStaff(const RpcDeps& deps,
                                 const grpc::ServerContextBase& context,
                                 bool reads) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::shared_ptr<const Peer> peer,
                             Authenticate(deps, context));
  CONSILIUM_RETURN_IF_ERROR(
      deps.engine->peers().AdmitStaff(peer->name, peer->serial));
  const bool allowed = peer->name.role == PeerRole::kOperator ||
                       (reads && peer->name.role == PeerRole::kAuditor);
  if (!allowed) {
    return absl::PermissionDeniedError(
        Cat(peer->name.Uri(), " has the role ", PeerRoleName(peer->name.role),
            "; this call needs the role operator", reads ? " or auditor" : ""));
  }
  if (const auto state = deps.engine->peers().Find(peer->name.name);
      state != nullptr && state->role.load() == peer->name.role) {
    deps.engine->Touch(*state);
  }
  return Staff{peer->name, peer->serial};
}

absl::StatusOr<Staff> AdmitMember(const RpcDeps& deps,
                                  const grpc::ServerContextBase& context) {
  CONSILIUM_ASSIGN_OR_RETURN(const std::shared_ptr<const Peer> peer,
                             Authenticate(deps, context));
  if (peer->name.role == PeerRole::kInstitution) {
    CONSILIUM_ASSIGN_OR_RETURN(
        const Caller caller,
        deps.engine->peers().Admit(peer->name, peer->serial));
    deps.engine->Touch(*caller.peer);
  } else {
    CONSILIUM_RETURN_IF_ERROR(
        deps.engine->peers().AdmitStaff(peer->name, peer->serial));
  }
  return Staff{peer->name, peer->serial};
}

absl::Status Staff::Alive(const RpcDeps& deps) const {
  return deps.engine->peers().AdmitStaff(name, serial);
}

absl::Status CheckReason(std::string_view reason) {
  if (reason.size() <= kMaxReason) return absl::OkStatus();
  return absl::InvalidArgumentError(
      Cat("the reason has ", reason.size(), " bytes, at most ", kMaxReason));
}

absl::Status ForPeer(const RpcDeps& deps, std::string_view who,
                     std::string_view method, const absl::Status& status) {
  if (!IsLocalError(status)) return status;
  deps.engine->Log("error", 0, who,
                   Cat(method, " failed: ", StdView(status.message())));
  return absl::UnavailableError(Cat("the coordinator cannot use its disk now (",
                                    method,
                                    "); its log says why: try again later"));
}

absl::Status ForStaff(const absl::Status& status) {
  if (!IsLocalError(status) || !absl::IsPermissionDenied(status)) return status;
  return absl::FailedPreconditionError(
      Cat("the coordinator may not: ", StdView(status.message())));
}

}  // namespace consilium
