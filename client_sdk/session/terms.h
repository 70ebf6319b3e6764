#ifndef CONSILIUM_CLIENT_SDK_SESSION_TERMS_H_
#define CONSILIUM_CLIENT_SDK_SESSION_TERMS_H_

#include "consilium/secure/signing.h"

namespace consilium::client::internal {

// What the coordinator signed about a round. Inside a TrainTask the signature
// has been checked; inside a transport's answer it has not.
struct SignedTerms {
  RoundStatement statement;
  Signature signature;
};

}  // namespace consilium::client::internal

#endif  // CONSILIUM_CLIENT_SDK_SESSION_TERMS_H_
