// The files of an issuing CA, and how a new one takes its place.
#ifndef CONSILIUM_SECURE_CA_FILES_H_
#define CONSILIUM_SECURE_CA_FILES_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "consilium/base/file.h"
#include "consilium/base/random.h"
#include "consilium/secure/ca.h"

namespace consilium {

struct IssuingCaFiles {
  std::string root;  // PEM
  // PEM: the CA that issues, then former ones that have not ended. Each peer
  // shows the certificate of its own issuer, and the root signed them all, so
  // a former one is trusted until it ends, without its key.
  std::string certificate;
  std::string key;  // 0600
};

// Errors: those of files and of IssuingCa::Create, naming the certificate's
// file; FAILED_PRECONDITION when it has ended, with how to make a new one.
absl::StatusOr<IssuingCa> LoadIssuingCa(FileSystem* fs,
                                        const IssuingCaFiles& files,
                                        std::string federation, absl::Time now);

// Replaces the issuing CA by a new one with a key of its own, signed by the
// root. Three steps, each durable: the new key to KEY.next, the certificate
// (from here on the new CA issues), the key to its place. LoadIssuingCa takes
// whichever key fits, so a crash at any point leaves the old CA or the new one.
// The old private key is gone in the end; the old CA may have ended before.
// Errors: INVALID_ARGUMENT     `root_key` is not the root's;
//         FAILED_PRECONDITION  the root has ended, or another renewal runs;
//         those of files.
absl::StatusOr<IssuingCa> RenewIssuingCa(FileSystem* fs,
                                         const IssuingCaFiles& files,
                                         const std::string& federation,
                                         const TlsKey& root_key, absl::Time now,
                                         RandomSource& random);

// A new certificate for the key and the names of the one that is there, which
// may have ended. The file is replaced at once. Returns the new one.
absl::StatusOr<CertificateInfo> RenewServerCertificate(
    FileSystem* fs, const std::string& certificate, const std::string& key,
    const IssuingCa& ca, absl::Time now, absl::Duration lifetime,
    RandomSource& random);

}  // namespace consilium

#endif  // CONSILIUM_SECURE_CA_FILES_H_
