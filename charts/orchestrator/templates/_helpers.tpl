{{/* Labels of every object; call with the root context. */}}
{{- define "orchestrator.labels" -}}
app.kubernetes.io/name: orchestrator
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* Labels that select the pods of one part; call with (dict "root" $ "part" "api"). */}}
{{- define "orchestrator.selector" -}}
app.kubernetes.io/name: orchestrator
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{/* A full image name; call with one entry of .Values.images. */}}
{{- define "orchestrator.image" -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag }}
{{- end -}}
{{- end }}

{{/* HOST:PORT of the object store. */}}
{{- define "orchestrator.storeEndpoint" -}}
{{- if .Values.objectStore.endpoint -}}
{{ .Values.objectStore.endpoint }}
{{- else if .Values.objectStore.minio.enabled -}}
{{ .Release.Name }}-minio.{{ .Release.Namespace }}.svc:9000
{{- else -}}
{{- fail "Set objectStore.endpoint to the HOST:PORT of an S3 server, or objectStore.minio.enabled=true to try it out." -}}
{{- end -}}
{{- end }}

{{/* Name of the Secret with a part's key to the store; call with (dict "root" $ "part" "api"). */}}
{{- define "orchestrator.storeSecret" -}}
{{- $store := .root.Values.objectStore -}}
{{- $named := (get $store .part).existingSecret | default $store.existingSecret -}}
{{- if $named -}}
{{ $named }}
{{- else if $store.minio.enabled -}}
{{ .root.Release.Name }}-minio-{{ .part }}
{{- else -}}
{{- fail "Set objectStore.existingSecret, or existingSecret of objectStore.operator and objectStore.api, to the name of a Secret with the keys accessKey and secretKey." -}}
{{- end -}}
{{- end }}

{{/* Name of the Secret with the key of MinIO's root. */}}
{{- define "orchestrator.rootSecret" -}}
{{- .Values.objectStore.minio.existingRootSecret | default (printf "%s-minio-root" .Release.Name) -}}
{{- end }}

{{/* Environment that API and operator share; call with (dict "root" $ "part" "api"). */}}
{{- define "orchestrator.environment" -}}
{{- with .root -}}
- name: ORCHESTRATOR_NAMESPACE
  value: {{ .Release.Namespace }}
- name: ORCHESTRATOR_JOBS_NAMESPACE
  value: {{ .Values.jobs.namespace }}
- name: ORCHESTRATOR_LOG_LEVEL
  value: {{ .Values.logLevel }}
- name: ORCHESTRATOR_CALLBACK_HOSTS
  value: {{ .Values.callbacks.allowedHosts | toJson | quote }}
- name: ORCHESTRATOR_S3_ENDPOINT
  value: {{ include "orchestrator.storeEndpoint" . | quote }}
- name: ORCHESTRATOR_S3_SECURE
  value: {{ .Values.objectStore.secure | quote }}
- name: ORCHESTRATOR_S3_REGION
  value: {{ .Values.objectStore.region }}
- name: ORCHESTRATOR_S3_BUCKET
  value: {{ .Values.objectStore.bucket }}
{{- range $variable, $key := dict "ACCESS_KEY" "accessKey" "SECRET_KEY" "secretKey" }}
- name: ORCHESTRATOR_S3_{{ $variable }}
  valueFrom:
    secretKeyRef:
      name: {{ include "orchestrator.storeSecret" $ }}
      key: {{ $key }}
{{- end }}
- name: ORCHESTRATOR_S3_ENCRYPTION
  value: {{ .Values.objectStore.serverSideEncryption | quote }}
- name: ORCHESTRATOR_S3_KMS_KEY_ID
  value: {{ .Values.objectStore.kmsKeyID | quote }}
{{- end }}
{{- end }}

{{- define "orchestrator.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "orchestrator.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Where there is a choice, not among the jobs, which take what processors they get. */}}
{{- define "orchestrator.elsewhere" -}}
nodeAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      preference:
        matchExpressions:
          - {key: orchestrator.dev/pool, operator: DoesNotExist}
{{- end }}

{{/* How callers are known, as the API reads it. */}}
{{- define "orchestrator.identity" -}}
{{- $identity := dict "limits" .Values.identity.limits -}}
{{- if .Values.identity.apiKeys.existingSecret -}}
{{- $_ := set $identity "apiKeysFile" "/etc/orchestrator/api-keys/keys.yaml" -}}
{{- end -}}
{{- if .Values.identity.oidc -}}
{{- $_ := set $identity "oidc" .Values.identity.oidc -}}
{{- end -}}
{{- toJson $identity -}}
{{- end }}

{{- define "orchestrator.apiMounts" -}}
{{- if .Values.identity.apiKeys.existingSecret -}}
- {name: api-keys, mountPath: /etc/orchestrator/api-keys, readOnly: true}
{{ end -}}
{{- if .Values.api.tls.existingSecret -}}
- {name: tls, mountPath: /etc/orchestrator/tls, readOnly: true}
{{- end -}}
{{- end }}

{{- define "orchestrator.apiVolumes" -}}
{{- with .Values.identity.apiKeys.existingSecret -}}
- name: api-keys
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{ end -}}
{{- with .Values.api.tls.existingSecret -}}
- name: tls
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end -}}
{{- end }}

{{/* What a part of ours is called as a user of Kubernetes; call with (dict "root" $ "part" "api"). */}}
{{- define "orchestrator.account" -}}
system:serviceaccount:{{ .root.Release.Namespace }}:{{ .root.Release.Name }}-{{ .part }}
{{- end }}
