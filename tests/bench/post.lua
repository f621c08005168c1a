-- wrk -s post.lua URL -- BODY HEADERS: posts one body; each line of HEADERS is one kind of request ("Name: value\tName: value"), in turn
function init(args)
  local file = io.open(args[1], "rb")
  local body = file:read("*a")
  file:close()
  requests, count = {}, 0
  for line in io.lines(args[2]) do
    local headers = { ["Content-Type"] = "application/json", ["Host"] = "127.0.0.1" }
    for pair in line:gmatch("[^\t]+") do
      local name, value = pair:match("^([^:]+):%s*(.*)$")
      headers[name] = value
    end
    count = count + 1
    requests[count] = wrk.format("POST", wrk.path, headers, body)
  end
  at = 0
end

function request()
  at = at % count + 1
  return requests[at]
end

function done(summary, latency, _)
  local e = summary.errors
  io.write(string.format('JSON {"requests":%d,"duration_us":%d,"bad":%d,"p50_us":%d,"p99_us":%d}\n',
    summary.requests, summary.duration, e.connect + e.read + e.write + e.timeout + e.status,
    latency:percentile(50), latency:percentile(99)))
end
