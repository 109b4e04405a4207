{{- define "bearerd.image" -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- end }}

{{/* What the gateway is called by in its cluster. */}}
{{- define "bearerd.names" -}}
- bearerd-gateway
- bearerd-gateway.{{ .Release.Namespace }}.svc
- bearerd-gateway.{{ .Release.Namespace }}.svc.cluster.local
{{- end }}

{{/* The gateway's configuration: the example as it is, or its frame with the user's own. */}}
{{- define "bearerd.config" -}}
{{- $example := .Files.Get "files/gateway/config.yaml" }}
{{- if .Values.gateway.config }}
{{- $frame := omit (fromYaml $example) "tokens" "routes" }}
{{- $_ := set $frame "callers" (omit $frame.callers "clients") }}
{{- mergeOverwrite $frame (deepCopy .Values.gateway.config) | toYaml }}
{{- else }}
{{- $example }}
{{- end }}
{{- end }}
