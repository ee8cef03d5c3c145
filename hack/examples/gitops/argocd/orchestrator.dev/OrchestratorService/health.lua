-- The Ready condition, once the operator has judged the spec as it is now.
local status = obj.status or {}
local generation = (obj.metadata or {}).generation or 0
if (status.observedGeneration or -1) < generation then
  return {status = "Progressing", message = "The operator has not looked at this version yet."}
end
for _, condition in ipairs(status.conditions or {}) do
  if condition.type == "Ready" then
    local message = condition.message or ""
    if condition.status == "True" then
      return {status = "Healthy", message = message}
    end
    if condition.status == "False" then
      if message == "" then
        message = condition.reason or "It is not ready."
      end
      return {status = "Degraded", message = message}
    end
  end
end
return {status = "Progressing", message = "The operator has not said yet whether it is ready."}
