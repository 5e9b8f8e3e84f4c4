-- What a run waits for, for who decides on it. Writes nothing.
-- KEYS: the eight of base.lua
-- ARGV: runId
-- Returns OK run log state decisions... (of each call, in order: as respond.lua was given it, "" where there is none)
--         | KNOWN fingerprint (the op was done) | NOT_WAITING | NOT_FOUND | CORRUPT
local runId = unpack(ARGV, 8)
local x, code = load()
if not x then return { code } end
local run = not x.none and runOf(runId)
if not run then return { 'NOT_FOUND' } end
local op = knownOp(opId)
if op then return { 'KNOWN', op.fingerprint } end
local state = call('HGET', RUNS, runId .. ':wait')
if run.st ~= 'WAITING' or run.wu <= now or not state then return { 'NOT_WAITING' } end
local answer = { 'OK', cjson.encode(run), call('HGET', RUNS, runId .. ':log') or '', state }
for k = 1, stepSize(run) or 0 do answer[#answer + 1] = call('HGET', RUNS, runId .. ':decision:' .. k) or '' end
return answer
