#ifndef CONSILIUM_CLIENT_SDK_APP_RUN_LOOP_H_
#define CONSILIUM_CLIENT_SDK_APP_RUN_LOOP_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client_sdk/app/log.h"
#include "client_sdk/app/trainer.h"
#include "consilium/base/cancel.h"
#include "consilium/base/clock.h"
#include "consilium/client/client.h"

namespace consilium::client::internal {

struct RunOptions {
  // End after this many contributions, once the last of their rounds is
  // decided; 0: run until cancelled.
  uint64_t rounds = 0;
  bool renew_automatically = true;
  absl::Duration poll = absl::Minutes(1);
};

// The life of the reference institution: sends what an earlier process left,
// then waits for work and does it. What cannot be sent while it is suspended
// waits in the outbox until it is resumed. One round's failure is logged,
// declined and forgotten; only losing the coordinator or the identity ends the
// loop.
//
// OK after `options.rounds`, or when cancelled. Other errors: the client's.
absl::Status RunInstitution(Client& client, Trainer& trainer,
                            const RunOptions& options, Clock& clock, Log& log,
                            const CancelToken& cancel);

}  // namespace consilium::client::internal

#endif  // CONSILIUM_CLIENT_SDK_APP_RUN_LOOP_H_
