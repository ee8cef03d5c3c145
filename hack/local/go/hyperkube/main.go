// Command hyperkube is every Kubernetes server component in one binary; the name
// it is called by (a symlink) picks the component. One binary is linked once and
// mapped once, which matters on a two-core machine.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

var components = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": controllers.NewControllerManagerCommand,
	"kube-proxy":              proxy.NewProxyCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	// The kubelet adds its own signal handling to the context it is given.
	"kubelet": func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) },
}

func main() {
	name := filepath.Base(os.Args[0])
	if command, ok := components[name]; ok {
		os.Exit(cli.Run(command()))
	}
	known := make([]string, 0, len(components))
	for component := range components {
		known = append(known, component)
	}
	sort.Strings(known)
	fmt.Fprintf(os.Stderr, "hyperkube: no component %q; call it by one of these names: %s\n", name, strings.Join(known, ", "))
	os.Exit(2)
}
