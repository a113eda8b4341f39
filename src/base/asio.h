// The name `asio` for Boost.Asio, and the completion token that returns an error code instead of throwing.
#pragma once

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace hivemetal {

namespace asio = boost::asio;

// `auto [error, n] = co_await socket.async_read_some(buffer, use_result);`
inline constexpr auto use_result = asio::as_tuple(asio::use_awaitable);

}  // namespace hivemetal
