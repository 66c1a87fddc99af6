// A plain server of net/http, and clients in the same process.
package main

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"sort"
	"strings"
)

func answer(response http.ResponseWriter, request *http.Request) {
	words := strings.Split(strings.Repeat(request.URL.Path, 50), "e")
	sort.Strings(words)
	json.NewEncoder(response).Encode(map[string]interface{}{"words": words, "header": request.Header})
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	for client := 0; client < 4; client++ {
		go func() {
			for {
				response, err := http.Get("http://" + listener.Addr().String() + "/some/where/else")
				if err != nil {
					panic(err)
				}
				io.Copy(io.Discard, response.Body)
				response.Body.Close()
			}
		}()
	}
	panic(http.Serve(listener, http.HandlerFunc(answer)))
}
