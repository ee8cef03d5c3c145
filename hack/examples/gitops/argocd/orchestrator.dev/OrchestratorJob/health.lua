-- The phase. A job that somebody stopped is no fault; one whose files were lost is.
local status = obj.status or {}
local phase = status.phase or "Queued"
local reason = status.reason or ""
local message = status.message or ""

if phase == "Completed" then
  return {status = "Healthy", message = message}
end
if phase == "Killed" then
  return {status = "Healthy", message = message ~= "" and message or "The job was stopped."}
end

local stalled = false
for _, condition in ipairs(status.conditions or {}) do
  if condition.type == "Stalled" and condition.status == "True" then
    stalled = true
  end
end
if phase == "Cleaned" and not stalled then
  return {status = "Healthy", message = message ~= "" and message or "The job's files are gone."}
end
if phase == "Failed" or phase == "Invalid" or phase == "Cleaned" then
  if message == "" then
    message = reason ~= "" and reason or "The job is " .. phase .. "."
  end
  return {status = "Degraded", message = message}
end

if message == "" then
  message = (status.progress or {}).text or ""
end
local words = phase
if reason ~= "" then
  words = words .. " (" .. reason .. ")"
end
if message ~= "" then
  words = words .. ": " .. message
end
return {status = "Progressing", message = words}
