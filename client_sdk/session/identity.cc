#include "client_sdk/session/identity.h"

#include <utility>

#include "consilium/base/bytes.h"
#include "consilium/base/status_macros.h"
#include "consilium/base/strings.h"
#include "consilium/secure/key_file.h"

namespace consilium::client::internal {
namespace {

constexpr int64_t kMaxPemBytes = 64 * 1024;

bool HasExpired(FileSystem* fs, const IdentityPaths& paths, absl::Time now) {
  const auto pem = ReadWholeFile(fs, paths.tls.chain, kMaxPemBytes);
  if (!pem.ok()) return false;
  const auto leaf = ParseCertificate(*pem);
  return leaf.ok() && leaf->not_after < now;
}

}  // namespace

IdentityPaths::IdentityPaths(std::string_view directory)
    : tls{.root = JoinPath(directory, "root-ca.pem"),
          .chain = JoinPath(directory, "client.pem"),
          .key = JoinPath(directory, "client.key")},
      signing_key(JoinPath(directory, "signing.pub")),
      next_key(JoinPath(directory, "client.key.next")),
      next_chain(JoinPath(directory, "client.pem.next")) {}

absl::Status CheckIdentityPresent(FileSystem* fs,
                                  const std::string& directory) {
  const IdentityPaths paths(directory);
  for (const std::string& path :
       {paths.tls.key, paths.tls.chain, paths.tls.root, paths.signing_key}) {
    if (!fs->Exists(path)) {
      return absl::NotFoundError(
          Cat("no identity in ", directory, ": ", path,
              " is missing; make one with `consilium-client enroll`"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<InstitutionIdentity> LoadIdentity(FileSystem* fs,
                                                 const std::string& directory,
                                                 absl::Time now) {
  CONSILIUM_RETURN_IF_ERROR(CheckIdentityPresent(fs, directory));
  const IdentityPaths paths(directory);
  absl::StatusOr<TlsIdentity> loaded =
      LoadTlsIdentity(fs, paths.tls, CertificateUse::kClient, now);
  if (!loaded.ok() && HasExpired(fs, paths, now)) {
    return absl::UnauthenticatedError(
        Cat(StdView(loaded.status().message()),
            " in this directory: with a new invitation, `consilium-client "
            "enroll --dir ",
            directory, "` keeps state and outbox"));
  }
  if (!loaded.ok()) return loaded.status();
  TlsIdentity& tls = *loaded;
  InstitutionIdentity identity;
  CONSILIUM_ASSIGN_OR_RETURN(identity.name,
                             PeerName::Parse(tls.leaf.subject_uri));
  if (identity.name.role != PeerRole::kInstitution) {
    return absl::InvalidArgumentError(
        Cat(paths.tls.chain, " is the certificate of ", tls.leaf.subject_uri,
            "; this needs an institution's"));
  }
  identity.leaf = std::move(tls.leaf);
  CONSILIUM_ASSIGN_OR_RETURN(identity.signing_key,
                             VerifyKey::LoadFile(fs, paths.signing_key));
  return identity;
}

absl::Status StageRenewalKey(FileSystem* fs, const IdentityPaths& paths,
                             const TlsKey& key) {
  if (fs->Exists(paths.next_chain)) {
    CONSILIUM_RETURN_IF_ERROR(fs->Remove(paths.next_chain));
    CONSILIUM_RETURN_IF_ERROR(fs->SyncDir(DirName(paths.next_chain)));
  }
  return key.SaveFile(fs, paths.next_key);
}

absl::Status StageRenewalChain(FileSystem* fs, const IdentityPaths& paths,
                               const std::string& chain_pem,
                               const PeerName& expected, absl::Time now) {
  CONSILIUM_ASSIGN_OR_RETURN(std::string root_pem,
                             ReadWholeFile(fs, paths.tls.root, kMaxPemBytes));
  CONSILIUM_ASSIGN_OR_RETURN(SecretBytes key_pem,
                             ReadKeyFile(fs, paths.next_key));
  absl::StatusOr<TlsIdentity> made =
      MakeTlsIdentity(std::move(root_pem), chain_pem, std::move(key_pem),
                      CertificateUse::kClient, now);
  if (!made.ok()) {
    return absl::UnauthenticatedError(
        Cat("the renewed certificate does not verify: ",
            StdView(made.status().message())));
  }
  if (made->leaf.subject_uri != expected.Uri()) {
    return absl::UnauthenticatedError(Cat("the renewed certificate is for ",
                                          Quoted(made->leaf.subject_uri),
                                          ", not for ", expected.Uri()));
  }
  return WriteFileAtomic(fs, paths.next_chain, AsBytes(chain_pem), 0644);
}

absl::Status FinishRenewal(FileSystem* fs, const IdentityPaths& paths) {
  const bool has_key = fs->Exists(paths.next_key);
  if (fs->Exists(paths.next_chain)) {
    if (has_key) {
      CONSILIUM_RETURN_IF_ERROR(
          RenameDurably(fs, paths.next_key, paths.tls.key));
    }
    return RenameDurably(fs, paths.next_chain, paths.tls.chain);
  }
  return has_key ? fs->Remove(paths.next_key) : absl::OkStatus();
}

}  // namespace consilium::client::internal
