#include "coordinator/metrics/http_head.h"

#include <algorithm>

#include "consilium/base/strings.h"

namespace consilium {
namespace {

const char* ReasonOf(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 413:
      return "Content Too Large";
    case 431:
      return "Request Header Fields Too Large";
    case 503:
      return "Service Unavailable";
    default:
      return "Internal Server Error";
  }
}

// Up to `end`, which is taken too; everything where it is not there.
std::string_view Take(std::string_view& text, std::string_view end) {
  const size_t at = std::min(text.find(end), text.size());
  const std::string_view taken = text.substr(0, at);
  text.remove_prefix(std::min(text.size(), at + end.size()));
  return taken;
}

bool IsHeader(std::string_view line, std::string_view name) {
  return line.size() > name.size() && line[name.size()] == ':' &&
         std::equal(name.begin(), name.end(), line.begin(), [](char a, char b) {
           return a == (b >= 'A' && b <= 'Z' ? b - 'A' + 'a' : b);
         });
}

bool IsZero(std::string_view number) {
  return number.find_first_not_of("0 \t") == std::string_view::npos;
}

}  // namespace

HttpRequest ParseHttpHead(std::string_view head) {
  HttpRequest out;
  std::string_view line = Take(head, "\r\n");
  const std::string_view method = Take(line, " ");
  std::string_view target = Take(line, " ");
  out.body = method != "HEAD";
  if (method.empty() || target.empty() || target[0] != '/' ||
      line.substr(0, 7) != "HTTP/1.") {
    out.status = 400;
    return out;
  }
  if (method != "GET" && method != "HEAD") {
    out.status = 405;
    return out;
  }
  while (!head.empty()) {
    const std::string_view header = Take(head, "\r\n");
    constexpr std::string_view kLength = "content-length";
    if (IsHeader(header, "transfer-encoding") ||
        (IsHeader(header, kLength) &&
         !IsZero(header.substr(kLength.size() + 1)))) {
      out.status = 413;
      return out;
    }
  }
  out.path = std::string(Take(target, "?"));
  return out;
}

std::string HttpAnswer(int status, std::string_view type,
                       std::string_view content, bool body) {
  return Cat("HTTP/1.1 ", status, " ", ReasonOf(status),
             "\r\nContent-Type: ", type, "\r\nContent-Length: ", content.size(),
             status == 405 ? "\r\nAllow: GET, HEAD" : "",
             "\r\nConnection: close\r\n\r\n",
             body ? content : std::string_view());
}

}  // namespace consilium
