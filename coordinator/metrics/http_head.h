// The little of HTTP/1.1 that /metrics and its neighbours need.

#ifndef CONSILIUM_COORDINATOR_METRICS_HTTP_HEAD_H_
#define CONSILIUM_COORDINATOR_METRICS_HTTP_HEAD_H_

#include <string>
#include <string_view>

namespace consilium {

// Of a whole request head, with its empty line.
struct HttpRequest {
  int status = 200;  // else what is to be answered at once
  bool body = true;  // false: HEAD
  std::string path;  // without a query
};
HttpRequest ParseHttpHead(std::string_view head);

// A whole answer, after which the connection closes. `body`: false leaves the
// content out, whose size is told all the same.
std::string HttpAnswer(int status, std::string_view type,
                       std::string_view content, bool body);

}  // namespace consilium

#endif  // CONSILIUM_COORDINATOR_METRICS_HTTP_HEAD_H_
