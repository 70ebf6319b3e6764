// A gate in front of a port that strangers may reach.
//
// gRPC takes in whole messages, and as many streams as a peer cares to open,
// before it asks anybody whether it should. The gate accepts connections in its
// place, hands each on over a connection of its own, and counts: how many there
// are, how many of one address, how many bytes came from the peer, and for how
// long. What lies behind it then holds at most
//   max_connections x (what max_bytes can make it hold).

#ifndef CONSILIUM_COORDINATOR_RPC_CONNECTION_GATE_H_
#define CONSILIUM_COORDINATOR_RPC_CONNECTION_GATE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "consilium/base/clock.h"

namespace consilium {

// Thread-safe. One thread does all the work, with 32 KiB for each connection.
class ConnectionGate {
 public:
  struct Options {
    std::string address;      // "host:port"; every address of the host
    std::string address_key;  // the configuration's keys, for texts
    // Further ones wait to be accepted.
    int64_t max_connections = 16;
    // Of one address, of IPv6 of one /64; further ones are closed at once.
    int64_t max_connections_per_address = 8;
    std::string max_connections_per_address_key;
    // From the peer, TLS included; a connection that sends more is closed.
    int64_t max_bytes = int64_t{16} << 10;
    std::string max_bytes_key;
    // From accept to the end, whatever happens on it.
    absl::Duration max_age = absl::Seconds(20);
    std::string max_age_key;
    Clock* clock = nullptr;  // outlives the gate
    // Says why the gate closed a connection; for a reason with many
    // connections, one line in `report_every`.
    std::function<void(std::string_view)> report;
    absl::Duration report_every = absl::Minutes(1);
  };
  // Takes a connected socket and owns it from then on.
  using Sink = std::function<void(int fd)>;

  // Errors: INVALID_ARGUMENT  the address is not host:port
  //         UNAVAILABLE       in use, or not an address of this machine
  static absl::StatusOr<std::unique_ptr<ConnectionGate>> Open(Options options);
  // Closes every connection.
  virtual ~ConnectionGate() = default;

  virtual int port() const = 0;
  // Before it, connections wait. Once; `sink` is called by the gate's thread.
  virtual void Start(Sink sink) = 0;
  // Takes no further connections, and none waits when it returns; those there
  // are go on.
  virtual void StopAccepting() = 0;
  // The peer, as gRPC names one ("ipv4:192.0.2.7:49152"), of a connection that
  // the sink's side knows as `inner` ("ipv4:127.0.0.1:50012"); `inner` itself
  // when the gate does not hold that connection.
  virtual std::string PeerOf(std::string_view inner) const = 0;

  struct Counts {
    int64_t open = 0;
    int64_t accepted = 0;
    // Closed by the gate, by the limit that was hit.
    int64_t too_many = 0;
    int64_t too_long = 0;
    int64_t too_old = 0;
  };
  virtual Counts counts() const = 0;
};

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_RPC_CONNECTION_GATE_H_
